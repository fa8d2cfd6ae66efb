"""Pictures under conditions, on any family's tiny base."""

from collections.abc import Callable
from dataclasses import replace

from tiny_families import random_concept
from torch import Tensor

from toolkit.backbones import Base
from toolkit.layout.layout import Condition, Layout, Region
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import compose

PLAIN = Layout("plain", "a dog in the park", 192, 128, negative_prompt="rain")


def sample(base: Base, layout: Layout) -> Tensor:
    concepts = {"dog": random_concept(base, "dog", 0)}
    return compose(base, PUBLISHED, [PUBLISHED.prepare(base, layout, concepts)], [3], 3, 5.0)


def check_weight_of_a_region(base: Base, condition: Callable[..., Condition]) -> None:
    """A condition acts in a region alone, and beside it alone. condition: made with weights."""
    region = Region("dog", "<dog>, sitting", (0.0, 0.0, 0.5, 1.0))
    layout = replace(PLAIN, regions=(region,))
    without = sample(base, layout)
    inside, outside = (
        sample(base, replace(layout, conditions=(condition(**weights),)))
        for weights in (
            {"weight": 0.0, "region_weights": (0.7,)},
            {"weight": 0.7, "region_weights": (0.0,)},
        )
    )
    for found in (inside, outside):
        assert (found - without).abs().max() > 0.01 * without.std()
    assert (inside - outside).abs().max() > 0.01 * without.std()
