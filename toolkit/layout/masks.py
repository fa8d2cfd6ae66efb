"""Areas as masks of a feature map, on the CPU."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from toolkit.layout.areas import Area, as_array, cells_of_areas, own_cells
from toolkit.layout.cells import Cells
from toolkit.layout.edges import softened


def cell_mask(cells: Cells | None, height: int, width: int) -> Tensor:
    """(height, width), 1.0 in the cells and 0.0 elsewhere."""
    if cells is None:
        return torch.zeros(height, width)
    return torch.from_numpy(as_array(cells, height, width)).float()


def area_masks(areas: Sequence[Area], height: int, width: int) -> Tensor:
    """(areas, height, width), 1.0 in each one's cells, without those of areas in front of it."""
    masks = torch.zeros(len(areas), height, width)
    for mask, cells in zip(masks, cells_of_areas(tuple(areas), height, width), strict=True):
        mask.copy_(cell_mask(cells, height, width))
    return masks


def edge_mask(area: Area, height: int, width: int) -> Tensor:
    """(height, width), how much an area acts in a cell, whatever stands in front of it.

    0 outside, 1 inside, and between them where its edge is soft.
    """
    if area.tile is not None and area.feather:
        whole = edge_mask(replace(area, tile=None), *area.tile.of_canvas(height, width))
        return whole[area.tile.within(height, width)]
    cells = own_cells(area, height, width)
    if cells is None or not area.feather:
        return cell_mask(cells, height, width)
    return torch.from_numpy(softened(as_array(cells, height, width), area.feather))


def shares(areas: Sequence[Area], height: int, width: int) -> Tensor:
    """(1 + areas, height, width): how much of the canvas, and then of each area, is in a cell.

    They add up to 1. From the front to the back, an area takes of what those before it have left
    as much as it acts there; areas of one depth that together would take more than all divide it,
    so that those without soft edges have equal parts. The canvas has the rest.
    """
    found = torch.zeros(1 + len(areas), height, width)
    left = torch.ones(height, width)
    for depth in sorted({area.depth for area in areas}):
        level = [number for number, area in enumerate(areas, 1) if area.depth == depth]
        acting = torch.stack([edge_mask(areas[number - 1], height, width) for number in level])
        found[level] = mean_weights(acting) * left
        left = left * (1 - acting.sum(dim=0)).clamp(min=0)
    found[0] = left
    return found


def mean_weights(masks: Tensor) -> Tensor:
    """(areas, height, width): how much of each area counts in a cell that several hold.

    That is 1 / (areas that hold the cell) in an area, and 0 outside it. masks: as of `area_masks`,
    or as of `edge_mask`, which are divided by their sum where that is above 1.
    """
    return masks / masks.sum(dim=0).clamp(min=1)
