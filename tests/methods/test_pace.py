"""When refinement slows down and ends: for the whole picture, or for each region by itself."""

from dataclasses import replace

import pytest

from toolkit.methods.lora_composer import BALANCED, PAPER, PUBLISHED, LoraComposer
from toolkit.methods.pace import Pace, next_pace, start

PACED = BALANCED


def ends(method: LoraComposer, step: int, loss: float, last: float, steps: int = 50) -> bool:
    return next_pace(Pace((1.0,), (last,)), step, steps, [loss], method).is_over


def test_refining_stops_when_the_loss_rises_but_not_before_the_sixth_step() -> None:
    method = PUBLISHED
    assert not ends(method, 4, loss=2.0, last=1.0)
    assert ends(method, 5, loss=2.0, last=1.0)
    assert not ends(method, 5, loss=1.0, last=2.0)
    assert ends(method, 25, loss=1.0, last=2.0)
    assert ends(PAPER, 1, loss=2.0, last=1.0)
    assert not ends(LoraComposer(adaptive_stop=False), 24, loss=2.0, last=1.0)


@pytest.mark.parametrize("steps", [10, 25, 50])
def test_a_share_of_the_steps_is_the_same_share_whatever_their_number(steps: int) -> None:
    method = replace(BALANCED, guidance_share=0.4)
    pace, refined = start(2, method), 0
    while not pace.is_over:
        pace = next_pace(pace, refined, steps, [1.0, 1.0], method)
        refined += 1
    assert refined == 0.4 * steps


def test_one_regions_rising_loss_slows_that_region_alone() -> None:
    pace = start(2, PACED)
    pace = next_pace(pace, 0, 50, [5.0, 5.0], PACED)
    assert pace.factors == (1.0, 1.0)
    pace = next_pace(pace, 1, 50, [6.0, 4.0], PACED)
    assert pace.factors == (0.5, 1.0)
    for step in range(2, 6):
        pace = next_pace(pace, step, 50, [6.0 + step, 4.0], PACED)
    assert pace.factors == (0.0, 1.0)


def test_without_damping_a_rising_loss_ends_its_region() -> None:
    method = replace(BALANCED, damping=False)
    pace = next_pace(start(2, method), 0, 50, [5.0, 5.0], method)
    assert next_pace(pace, 1, 50, [6.0, 4.0], method).factors == (0.0, 1.0)


def test_published_follows_the_sum_whatever_the_number_of_regions() -> None:
    assert start(5, PUBLISHED) == Pace((1.0,), (1000.0,))
    assert start(5, LoraComposer(enhancement=False, fill_loss=False, region_loss=False)).is_over
