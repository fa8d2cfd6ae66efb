"""Whom each cell sees in self-attention: the concept region mask of a batch, for one size."""

import torch
from torch import Tensor

from toolkit.backbones.unet.conditioning import Conditioning
from toolkit.backbones.unet.isolation import (
    BLOCKED,
    Isolation,
    blocked_counts,
    free_keys,
    isolation,
)
from toolkit.backbones.unet.rows import Batch, Size
from toolkit.layout.areas import cells_of_areas
from toolkit.layout.cells import Cells

IsolatedRows = tuple[Tensor | None, Tensor | Isolation | None]
"""The rows of one layout (None: all), and the concept region mask there: scores to add, groups of
cells, or None where every cell attends to all."""


def isolated_rows(batch: Batch, size: Size) -> tuple[IsolatedRows, ...]:
    """The mask of each layout of the batch."""
    return tuple(
        (batch.rows_of(layout), _isolation_of(batch, layout, size)) for layout in batch.layouts
    )


def _isolation_of(batch: Batch, layout: Conditioning, size: Size) -> Tensor | Isolation | None:
    boxes = _boxes(batch, layout, size)
    device, dtype = batch.base.device, batch.base.dtype
    if batch.grouped:
        return isolation(boxes, *size, device, batch.closed)
    mask = free_keys(boxes, *size, device, dtype, batch.closed)
    isolating = batch.regional.isolation and len(layout.regions) >= (1 if batch.closed else 2)
    if mask is None and isolating:  # boxes too small for this map: a compiled graph wants a mask
        cells = size[0] * size[1]
        return torch.zeros(1, 1, cells, cells, device=device, dtype=dtype)
    return mask


def isolating_bias(batch: Batch, layout: Conditioning, size: Size) -> Tensor | None:
    """(cells, cells) to add to scores in float32, as the released sampler adds it."""
    boxes = _boxes(batch, layout, size)
    if len(boxes) < (1 if batch.closed else 2):
        return None
    return blocked_counts(boxes, *size, batch.base.device, batch.closed) * BLOCKED


def _boxes(batch: Batch, layout: Conditioning, size: Size) -> list[Cells]:
    """The cells of the regions that are isolated from each other."""
    if not batch.regional.isolation:
        return []
    found = cells_of_areas(tuple(one.area for one in layout.regions), *size)
    return [cells for cells in found if cells is not None]
