"""`model.compile=true`: one graph for every denoising pass of a canvas, and the same numbers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from toolkit.backbones import Base
from toolkit.concept import Concept, LowRank
from toolkit.layout.layout import Layout, Region
from toolkit.methods import LoraComposer
from toolkit.methods.lora_composer import BALANCED, PUBLISHED
from toolkit.sampling import compose

LEFT, RIGHT, LOW = (0.05, 0.1, 0.45, 0.9), (0.55, 0.2, 0.95, 0.9), (0.5, 0.5, 1.0, 1.0)


def layout(name: str, left: tuple[float, ...], right: tuple[float, ...]) -> Layout:
    regions = (Region("dog", "<dog>, sitting", left), Region("cat", "<cat> asleep", right))  # type: ignore[arg-type]
    return Layout(name, "a dog and a cat", 256, 192, regions)


def calling(base: Base, denoiser: Callable[..., Any]) -> Base:
    """A base that is to be compiled, whose denoising passes call this instead."""
    copy = replace(base, compiled=True)
    vars(copy)["denoiser"] = denoiser
    return copy


@pytest.fixture
def compiled(reference_base: Base) -> Iterator[Base]:
    """The reference base, its passes traced as for a compiler, and run as they are."""
    torch._dynamo.reset()
    yield calling(
        reference_base, torch.compile(reference_base.unet, fullgraph=True, backend="eager")
    )
    torch._dynamo.reset()


@pytest.mark.parametrize("method", [PUBLISHED, BALANCED], ids=["published", "balanced"])
def test_one_graph_serves_all_steps_seeds_and_layouts_of_a_canvas(
    method: LoraComposer, reference_base: Base, compiled: Base, concepts: dict[str, Concept]
) -> None:
    own = [layout("one", LEFT, RIGHT), layout("two", RIGHT, LEFT), layout("three", LEFT, LOW)]
    as_it_is = calling(reference_base, reference_base.unet)
    counters.clear()
    for number, each in enumerate(own):
        ready = [method.prepare(reference_base, each, concepts)]
        for seed in (number, number + 7):
            found = compose(compiled, method, ready, [seed], 4)
            assert torch.equal(found, compose(as_it_is, method, ready, [seed], 4))
            grouped = compose(reference_base, method, ready, [seed], 4)
            assert (found - grouped).abs().max() < 1e-3 * grouped.std()
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_what_is_changed_beside_attention_acts_all_the_same(
    reference_base: Base, compiled: Base, concepts: dict[str, Concept]
) -> None:
    own = layout("one", LEFT, RIGHT)
    as_it_is = calling(reference_base, reference_base.unet)
    method = replace(BALANCED, enhancement=False, fill_loss=False, region_loss=False)
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    pictures = []
    for path in ("", f"{block}.ff.net.2", "conv_in", "down_blocks.0.resnets.0.time_emb_proj", ""):
        changes = dict(concepts["dog"].unet)
        if path:
            rows, columns, *kernel = reference_base.unet.get_submodule(path).weight.shape
            changes[path] = LowRank(torch.ones(1, columns, *kernel) / 9, torch.ones(rows, 1) / 9)
        changed = {**concepts, "dog": replace(concepts["dog"], unet=changes)}
        ready = [method.prepare(reference_base, own, changed)]
        pictures.append(compose(compiled, method, ready, [1], 2))
        assert torch.equal(pictures[-1], compose(as_it_is, method, ready, [1], 2)), path
    plain, *others, again = pictures
    assert torch.equal(plain, again)
    assert all((other - plain).abs().max() > 1e-3 for other in others)
