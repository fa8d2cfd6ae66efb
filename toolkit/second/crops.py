"""Which regions of a picture are refined by themselves, and what is cut out of it for that."""

from dataclasses import dataclass

from toolkit.layout.areas import bounds_of
from toolkit.layout.layout import Box, Layout
from toolkit.layout.pixels import PixelBox

MARGIN = 0.25
"""What is cut out beside a region, on each side, as a share of its longer side."""

LEAST_GAIN = 1.25
"""A region whose cut would be enlarged by less is large already, and is left alone."""


@dataclass(frozen=True)
class Crop:
    """A region with a margin, in whole pixels of a picture.

    region: its number in the layout, from 0. size: width and height that it is enlarged to.
    """

    region: int
    box: PixelBox
    size: tuple[int, int]


def crops_of(layout: Layout, own: tuple[int, int]) -> list[Crop]:
    """What is cut out of a picture in the layout's size, for each region that is small.

    own: the width and height that the base was trained at: what a cut has the shape of, and is
    enlarged to. A region that is so large that its cut cannot have that shape is left alone.
    """
    found = []
    for number, region in enumerate(layout.regions):
        box = _cut(bounds_of(region), (layout.width, layout.height), own)
        if box is not None:
            found.append(Crop(number, box, own))
    return found


def _cut(bounds: Box, canvas: tuple[int, int], own: tuple[int, int]) -> PixelBox | None:
    x0, y0, x1, y1 = (edge * canvas[number % 2] for number, edge in enumerate(bounds))
    margin = 2 * MARGIN * max(x1 - x0, y1 - y0)
    scale = max((x1 - x0 + margin) / own[0], (y1 - y0 + margin) / own[1])
    wide, high = round(scale * own[0]), round(scale * own[1])
    if scale * LEAST_GAIN > 1 or wide > canvas[0] or high > canvas[1]:
        return None
    left = min(max(round((x0 + x1 - wide) / 2), 0), canvas[0] - wide)
    top = min(max(round((y0 + y1 - high) / 2), 0), canvas[1] - high)
    return left, top, left + wide, top + high
