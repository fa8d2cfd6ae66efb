"""Boxes in whole pixels of a picture."""

from toolkit.layout.layout import Box

PixelBox = tuple[int, int, int, int]
"""Left, top, right, bottom: the right column and the bottom row lie outside."""


def pixel_box(box: Box, width: int, height: int) -> PixelBox:
    """The pixels of a picture that lie in a box of fractions, at least one: what scores look at."""
    left, top = int(box[0] * width), int(box[1] * height)
    right, bottom = round(box[2] * width), round(box[3] * height)
    return left, top, max(right, left + 1), max(bottom, top + 1)
