"""How strongly a region's concept acts: one number, or a schedule over the steps of a picture."""

import math
from dataclasses import dataclass
from typing import Annotated

from toolkit.errors import InputError

LinePoint = tuple[float, float]
"""Which share of the steps is over, from 0 to 1, and the strength there."""


@dataclass(frozen=True)
class StrengthSchedule:
    """A strength that changes over the steps, along straight lines.

    start: at the first step. end: at the last. points: between them, in their order.
    """

    start: float = 1.0
    end: float = 1.0
    points: Annotated[
        tuple[LinePoint, ...], "a list of [share of the steps, strength], [[0.5, 0.8], ...]"
    ] = ()

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"{name} {getattr(self, name)}: must be finite", name)
        shares = [0.0, *(share for share, _ in self.points), 1.0]
        rising = all(before < after for before, after in zip(shares, shares[1:], strict=False))
        if not rising or not all(math.isfinite(strength) for _, strength in self.points):
            raise InputError(
                f"points {[list(point) for point in self.points]}: need shares of the steps that "
                "rise, between 0 and 1, each with a strength",
                "points",
            )

    def at(self, share: float) -> float:
        """The strength when this share of the steps is over, from 0 to 1."""
        corners = [(0.0, self.start), *self.points, (1.0, self.end)]
        for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
            if share <= x1:
                return y0 + (y1 - y0) * (share - x0) / (x1 - x0)
        return self.end

    @property
    def largest(self) -> float:
        return max(self.start, self.end, *(strength for _, strength in self.points))


Strength = float | StrengthSchedule


def largest(strength: Strength) -> float:
    """The strength of what can have but one: of a schedule the largest."""
    return strength.largest if isinstance(strength, StrengthSchedule) else strength


def strength_at(strength: Strength, share: float) -> float:
    """The strength when this share of the steps is over, from 0 to 1."""
    return strength.at(share) if isinstance(strength, StrengthSchedule) else strength
