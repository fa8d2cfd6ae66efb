"""What a method leaves out of a LoRA in regions is said; strengths over the steps are followed."""

from dataclasses import replace

import pytest
import torch
from sample_layouts import PAIR

from toolkit.backbones import Base
from toolkit.concept import Concept, LowRank
from toolkit.errors import InputError
from toolkit.layout.layout import Layout
from toolkit.layout.strength import StrengthSchedule
from toolkit.methods import Method
from toolkit.methods.checks import check
from toolkit.methods.lora_composer import BALANCED, PUBLISHED, LoraComposer
from toolkit.methods.merge import Merge
from toolkit.methods.prompt_only import PromptOnly
from toolkit.sampling import compose

FAST = LoraComposer(enhancement=False, fill_loss=False, region_loss=False, reinitialisation=False)


def with_convolution(concept: Concept, base: Base) -> Concept:
    path = "down_blocks.0.resnets.0.conv1"
    rows, columns, *kernel = base.unet.get_submodule(path).weight.shape
    pair = LowRank(torch.ones(1, columns, *kernel) / 9, torch.ones(rows, 1) / 9)
    return replace(concept, unet={**concept.unet, path: pair})


def left_out(base: Base, concepts: dict[str, Concept], method: Method) -> list[str]:
    return [line for line in check(PAIR, base, concepts, method) if "left out" in line]


def test_what_is_left_out_in_regions_is_said_in_a_line(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    assert left_out(reference_base, concepts, PUBLISHED) == [], "the method is made for ED-LoRAs"
    more = {**concepts, "dog": with_convolution(concepts["dog"], reference_base)}
    (line,) = left_out(reference_base, more, PUBLISHED)
    assert "what dog changes of" in line and "convolutions (1 map)" in line
    assert "self-attention (64 maps)" in line and "method=balanced" in line
    assert left_out(reference_base, more, BALANCED) == []
    assert left_out(reference_base, more, Merge()) == [], "there it acts on the whole canvas"


def drawn(
    base: Base, concepts: dict[str, Concept], strength: float | StrengthSchedule, method: Method,
    steps: int = 3,
) -> torch.Tensor:  # fmt: skip
    dog, cat = PAIR.regions
    layout = replace(PAIR, regions=(replace(dog, strength=strength), cat))
    return compose(base, method, [method.prepare(base, layout, concepts)], [3], steps)[0]


def test_a_schedule_that_does_not_change_is_the_number(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    for method in (FAST, PUBLISHED):
        number = drawn(reference_base, concepts, 0.6, method)
        schedule = drawn(reference_base, concepts, StrengthSchedule(0.6, 0.6), method)
        assert torch.equal(number, schedule)


def test_a_schedule_is_followed_step_by_step(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    convolved = {**concepts, "dog": with_convolution(concepts["dog"], reference_base)}
    method = replace(FAST, self_attention_injection=True)
    falling = StrengthSchedule(1.0, 0.0)
    assert PAIR.regions[0].concept == "dog"
    (ready,) = method.prepare(reference_base, _with(falling), convolved)
    for share in (0.0, 0.5, 1.0):
        (expected,) = method.prepare(reference_base, _with(1.0 - share), convolved)
        own = ready.at(share)
        for path, change in own.changes[1].items():  # type: ignore[attr-defined]
            scaled = expected.changes[1][path].matrix  # type: ignore[attr-defined]
            assert torch.allclose(change.matrix, scaled, atol=1e-6)
    whole, none = (drawn(reference_base, convolved, s, method) for s in (1.0, falling))
    assert (whole - none).abs().max() > 1e-3 * whole.std()
    first = drawn(reference_base, convolved, StrengthSchedule(1.0, 0.2), method, steps=1)
    assert torch.equal(first, drawn(reference_base, convolved, 1.0, method, steps=1))


def _with(strength: float | StrengthSchedule) -> Layout:
    dog, cat = PAIR.regions
    return replace(PAIR, regions=(replace(dog, strength=strength), cat))


@pytest.mark.parametrize("method", [Merge(), PromptOnly(), PUBLISHED])
def test_a_method_of_one_strength_refuses_a_schedule(method: Method) -> None:
    layout = _with(StrengthSchedule(1.0, 0.0))
    if method.takes_schedules:
        method.check(layout)
        return
    with pytest.raises(InputError, match="region 1: method=merge has one strength"):
        method.check(layout)
