"""Places as cells of a feature map."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from toolkit.layout.layout import Box


@dataclass(frozen=True)
class Cells:
    """The cells of a feature map that a place holds: rows top..bottom, columns left..right.

    held: which of these it holds, a byte of 0 or 1 for each, row by row; None: all, as a box does.
    """

    top: int
    bottom: int
    left: int
    right: int
    held: bytes | None = None

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def __len__(self) -> int:
        return self.height * self.width if self.held is None else sum(self.held)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Row and column of each cell that is held."""
        for number in range(self.height * self.width):
            if self.held is None or self.held[number]:
                yield self.top + number // self.width, self.left + number % self.width


@lru_cache(maxsize=4096)
def cells_of(box: Box, height: int, width: int) -> Cells | None:
    """The whole cells of a `height` x `width` map in `box`; None where the box holds none."""
    x0, y0, x1, y1 = box
    top, bottom = _first(y0 * height), _last(y1 * height)
    left, right = _first(x0 * width), _last(x1 * width)
    if top >= bottom or left >= right:
        return None
    return Cells(top, bottom, left, right)


def _first(edge: float) -> int:
    """ceil, forgiving the rounding of a fraction such as 0.55 * 20 = 11.000000000000002."""
    return math.ceil(edge - 1e-9)


def _last(edge: float) -> int:
    return math.floor(edge + 1e-9)
