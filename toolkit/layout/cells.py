"""Boxes as cells of a feature map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from toolkit.layout.layout import Box


@dataclass(frozen=True)
class Cells:
    """The whole cells of a feature map that lie in a box: rows top..bottom, columns left..right."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def __len__(self) -> int:
        return self.height * self.width


@lru_cache(maxsize=4096)
def cells_of(box: Box, height: int, width: int) -> Cells | None:
    """The whole cells of a `height` x `width` map in `box`; None where the box holds none."""
    x0, y0, x1, y1 = box
    top, bottom = _first(y0 * height), _last(y1 * height)
    left, right = _first(x0 * width), _last(x1 * width)
    if top >= bottom or left >= right:
        return None
    return Cells(top, bottom, left, right)


def cell_mask(cells: Cells | None, height: int, width: int) -> Tensor:
    """(height, width), 1.0 in the cells and 0.0 elsewhere, on the CPU."""
    mask = torch.zeros(height, width)
    if cells is not None:
        mask[cells.top : cells.bottom, cells.left : cells.right] = 1
    return mask


def box_masks(boxes: Sequence[Box], height: int, width: int) -> Tensor:
    """(boxes, height, width), 1.0 in each box's cells and 0.0 elsewhere, on the CPU."""
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


def _first(edge: float) -> int:
    """ceil, forgiving the rounding of a fraction such as 0.55 * 20 = 11.000000000000002."""
    return math.ceil(edge - 1e-9)


def _last(edge: float) -> int:
    return math.floor(edge + 1e-9)
