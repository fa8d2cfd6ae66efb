"""When refinement ends, and how strongly each region is refined until then."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.methods.lora_composer import LoraComposer

_LEAST = 1 / 8
"""A region whose factor has been halved below this is left alone."""


@dataclass(frozen=True)
class Pace:
    """Where the refinement of one picture stands: one entry for each of its losses.

    factors: what each loss is multiplied with; 0 once its refinement is over.
    losses: what they were at the last update.
    """

    factors: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def is_over(self) -> bool:
        return not any(self.factors)


def start(regions: int, method: LoraComposer) -> Pace:
    """The pace before the first step; over already where there is nothing to refine."""
    if not regions or not method.refines:
        return Pace((), ())
    entries = regions if method.pace_per_region else 1
    return Pace((1.0,) * entries, (1000.0,) * entries)


def next_pace(
    pace: Pace, step: int, steps: int, losses: Sequence[float], method: LoraComposer
) -> Pace:
    """The pace after the update at `step` of `steps`, which found `losses`."""
    over = method.ends_at(step, steps)
    factors = (
        0.0 if over else _slowed(factor, method) if method.rises(step, loss, last) else factor
        for factor, loss, last in zip(pace.factors, losses, pace.losses, strict=True)
    )
    return Pace(tuple(factors), tuple(losses))


def _slowed(factor: float, method: LoraComposer) -> float:
    """What is left of a region's factor after its loss has risen."""
    halved = factor / 2 if method.damping else 0.0
    return halved if halved >= _LEAST else 0.0
