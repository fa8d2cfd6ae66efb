"""A subject's own outline, seen in the attention maps, in place of the region that was drawn."""

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.layout.areas import Area, as_array, own_cells
from toolkit.layout.cells import Cells
from toolkit.layout.masks import cell_mask
from toolkit.layout.rasters import Raster

_ENDS = 0.2
"""The share of a region's cells, the most and the least attentive, that say what subject and ground
are like: the same as S's."""

_CUT = 0.25
"""How far from ground to subject the outline lies.

Tried on the embedded base: 0.5 cuts off ears and hats, 0.15 holds half of the ground again.
"""

_FINER = 8
"""Points of the outline along a cell of the guidance grid, between which maps are interpolated."""


def presence_of(attention: Tensor, self_attention: Tensor | None) -> Tensor:
    """(h, w): how much of a subject is in each cell of the guidance grid.

    A subject's tokens are attended to by some of its parts and not by others, so their map is
    carried along self-attention to the cells that attend to those parts: S A.
    attention: (tokens, h, w), A before its tokens are added up. self_attention: (h * w, h * w)
    probabilities S, or None where the pass did not give them.
    """
    summed = attention.float().sum(dim=0)
    if self_attention is None:
        return summed
    return (self_attention.float() @ summed.flatten()).view_as(summed)


def outlined(area: Area, cells: Cells, presence: Tensor) -> Area:
    """What of `area` its subject fills; all of it where that would be no cell.

    cells: which the area has on the guidance grid. presence: as of `presence_of`.
    """
    presence = presence.cpu()
    height, width = presence.shape
    levels = presence[cell_mask(cells, height, width) > 0].sort().values
    ends = max(int(_ENDS * len(levels)), 1)
    ground, subject = levels[:ends].mean(), levels[-ends:].mean()
    size = (height * _FINER, width * _FINER)
    fine = functional.interpolate(presence[None, None], size, mode="bilinear")[0, 0]
    drawn = own_cells(area, *size)
    assert drawn is not None  # it has cells on the coarser grid
    inside = as_array(drawn, *size) & (fine >= torch.lerp(ground, subject, _CUT)).numpy()
    found = Area(area.bounds, Raster(*size, inside.tobytes()), area.feather, area.depth)
    return area if own_cells(found, height, width) is None else found
