"""How regions that were refined by themselves are put back into the picture."""

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.layout.areas import areas_of
from toolkit.layout.edges import distances
from toolkit.layout.layout import Layout
from toolkit.layout.masks import area_masks, mean_weights
from toolkit.second.crops import MARGIN


def blend_weights(layout: Layout, pixels: int) -> Tensor:
    """(regions, height, width): how much of a refined region is in each pixel of the picture.

    All of it in the region, and less and less in its margin, down to nothing at the end of that.
    Nothing in what other regions hold, and less and less towards those; of regions that overlap the
    nearest has the place to itself, and those of one depth their mean. Worked out on a grid of so
    many `pixels` to a cell, so that a canvas of any size is quick.
    """
    size = layout.height // pixels, layout.width // pixels
    areas = areas_of(layout.regions)
    held = area_masks(areas, *size).bool()
    weights = torch.zeros(held.shape)
    for number, (area, own) in enumerate(zip(areas, held, strict=True)):
        if not own.any():
            continue
        x0, y0, x1, y1 = area.bounds
        margin = MARGIN * max((x1 - x0) * size[1], (y1 - y0) * size[0])
        others = held[[other for other in range(len(held)) if other != number]].any(dim=0)
        outwards, towards = (
            torch.from_numpy(distances(~place.numpy())).float() for place in (own, others & ~own)
        )
        near = (1 - outwards / (margin + 0.5)).clamp(0, 1)
        free = ((towards - 0.5) / margin).clamp(0, 1)
        weights[number] = near * free
    shared = mean_weights(weights)
    whole = (layout.height, layout.width)
    return functional.interpolate(shared[None], whole, mode="bilinear", align_corners=False)[0]
