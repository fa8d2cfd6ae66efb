"""Tiles of a canvas: parts of it, overlapping, that are worked on one at a time."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A part of a canvas, in pixels.

    canvas: the canvas's width and height. A map of the tile is a part of the canvas's own map, to
    the cell, where all of these are multiples of a cell's pixels.
    """

    left: int
    top: int
    width: int
    height: int
    canvas: tuple[int, int]

    def of_canvas(self, rows: int, columns: int) -> tuple[int, int]:
        """The rows and columns of the canvas's map, of which the tile's has `rows` x `columns`."""
        width, height = self.canvas
        return rows * height // self.height, columns * width // self.width

    def within(self, rows: int, columns: int) -> tuple[slice, slice]:
        """Where the tile's map of `rows` x `columns` lies in the canvas's."""
        top, left = rows * self.top // self.height, columns * self.left // self.width
        return slice(top, top + rows), slice(left, left + columns)


def tiles_of(width: int, height: int, side: int, multiple: int) -> list[Tile]:
    """Tiles of at most `side` x `side` that cover a canvas, all of one size, row by row.

    Neighbours overlap by a quarter of `side` or more. Every edge is a multiple of `multiple`, as
    the canvas's sides are, and `side`, which is twice as much or more.
    """
    across, wide = _starts(width, side, multiple)
    down, high = _starts(height, side, multiple)
    return [Tile(left, top, wide, high, (width, height)) for top in down for left in across]


def _starts(length: int, side: int, multiple: int) -> tuple[list[int], int]:
    """Where tiles begin along a length, and how long each is."""
    if length <= side:
        return [0], length
    overlap = math.ceil(side / 4 / multiple) * multiple
    count = math.ceil((length - overlap) / (side - overlap))
    last = (length - side) // multiple
    return [round(last * number / (count - 1)) * multiple for number in range(count)], side
