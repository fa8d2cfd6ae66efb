"""Boxes as masks of a feature map, on the CPU."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toolkit.layout.cells import Cells, cells_of
from toolkit.layout.layout import Box


def cell_mask(cells: Cells | None, height: int, width: int) -> Tensor:
    """(height, width), 1.0 in the cells and 0.0 elsewhere."""
    mask = torch.zeros(height, width)
    if cells is not None:
        mask[cells.top : cells.bottom, cells.left : cells.right] = 1
    return mask


def box_masks(boxes: Sequence[Box], height: int, width: int) -> Tensor:
    """(boxes, height, width), 1.0 in each box's cells and 0.0 elsewhere."""
    masks = np.zeros((len(boxes), height, width), dtype=np.float32)
    for mask, box in zip(masks, boxes, strict=True):
        cells = cells_of(box, height, width)
        if cells is not None:
            mask[cells.top : cells.bottom, cells.left : cells.right] = 1
    return torch.from_numpy(masks)


def mean_weights(masks: Tensor) -> Tensor:
    """(boxes, height, width): how much of each box counts in a cell that several hold.

    That is 1 / (boxes that hold the cell) in a box, and 0 outside it. masks: as of `box_masks`.
    """
    return masks / masks.sum(dim=0).clamp(min=1)
