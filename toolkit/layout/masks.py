"""Boxes as masks of a feature map."""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.layout.cells import Cells, cells_of
from toolkit.layout.layout import Box


def cell_mask(cells: Cells | None, height: int, width: int) -> Tensor:
    """(height, width), 1.0 in the cells and 0.0 elsewhere, on the CPU."""
    mask = torch.zeros(height, width)
    if cells is not None:
        mask[cells.top : cells.bottom, cells.left : cells.right] = 1
    return mask


def box_masks(boxes: Sequence[Box], height: int, width: int) -> Tensor:
    """(boxes, height, width), 1.0 in each box's cells and 0.0 elsewhere, on the CPU."""
    masks = [cell_mask(cells_of(box, height, width), height, width) for box in boxes]
    return torch.stack(masks) if masks else torch.zeros(0, height, width)


def shares_of(masks: Tensor) -> Tensor:
    """(boxes, height, width): 1 / (boxes that hold the cell) in a box, 0 elsewhere.

    masks: what `box_masks` gives.
    """
    return masks / masks.sum(dim=0).clamp(min=1)
