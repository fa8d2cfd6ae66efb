"""Where the constraints of a batch's regions look: worked out once, before the loop.

The paper's constraints are of a box. Of a region that a mask or a polygon draws, or that others
stand in front of, M (eqs. 4 to 8) are the cells that it holds itself, and so S and P are a share of
these. Where an equation needs a box, it is the bounding box of those cells: G of eq. 4 lies over
it, and L_fill (eqs. 5 to 7) asks for the rows and columns in which M holds a cell. Of a box all of
this is what the paper has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones import Backbone, Conditioning
from toolkit.layout.areas import cells_of_areas
from toolkit.layout.cells import Cells
from toolkit.layout.masks import area_masks, cell_mask
from toolkit.methods.constraints import Top, gaussian_weight, top_count


@dataclass(frozen=True)
class Places:
    """Each (pictures, regions, ..); a picture with fewer regions than others has empty ones behind.

    tokens, has_token: (.., tokens), at which places of its prompt a concept is called, and 1 where
        there is such a token; 0 fills up to the largest number of tokens.
    mask, weight: (.., h, w) on the guidance grid, 1 in the region (M) and G in it (or 1).
    leaks: (.., h * w, h * w), true from inside the region to outside.
    top, top_leaks: S and P. present: 1 where there is a region.
    reach: (.., height, width) on the latents, 1 in the region.
    cells: each region's on the guidance grid. called: the places of `tokens`, as they were given.
    """

    tokens: Tensor
    has_token: Tensor
    mask: Tensor
    weight: Tensor
    leaks: Tensor
    top: Top
    top_leaks: Top
    present: Tensor
    reach: Tensor
    cells: tuple[tuple[Cells, ...], ...]
    called: tuple[tuple[tuple[int, ...], ...], ...]


def places_of(
    base: Backbone, conditionings: Sequence[Conditioning], top_share: float, gaussian: bool
) -> Places:
    """The places of a batch, one picture for each of `conditionings`."""
    layout = conditionings[0].layout
    grid = base.guidance_cells(layout.width, layout.height)
    areas = [tuple(one.area for one in c.regions) for c in conditionings]
    called = [[one.places for one in c.regions] for c in conditionings]
    cells = [cells_of_areas(own, *grid) for own in areas]
    held = tuple(tuple(one for one in own if one is not None) for own in cells)
    reach = [area_masks(own, *base.latent_size(layout.width, layout.height)) for own in areas]
    return places_on(grid, held, called, reach, top_share, gaussian, base.device)


def places_on(
    grid: tuple[int, int],
    cells: tuple[tuple[Cells, ...], ...],
    called: Sequence[Sequence[tuple[int, ...]]],
    reach: Sequence[Tensor],
    top_share: float,
    gaussian: bool,
    device: torch.device,
) -> Places:
    """The places of regions that hold these cells of a grid.

    called: for each picture and region the places of its prompt that call its concept.
    reach: for each picture (regions, height, width) on the latents, 1 in the region.
    """
    pictures, regions = len(cells), max((len(own) for own in cells), default=0)
    most = max((len(places) for own in called for places in own), default=0)
    size = (pictures, regions)
    tokens = torch.zeros(*size, most, dtype=torch.long)
    has_token = torch.zeros(*size, most)
    mask, weight = torch.zeros(*size, *grid), torch.zeros(*size, *grid)
    top, top_leaks = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
    present = torch.zeros(size)
    reached = torch.zeros(*size, *reach[0].shape[1:])
    for picture, own in enumerate(cells):
        for number, place in enumerate(own):
            at, at_places = (picture, number), called[picture][number]
            tokens[*at, : len(at_places)] = torch.tensor(at_places, dtype=torch.long)
            has_token[*at, : len(at_places)] = 1
            mask[at] = cell_mask(place, *grid)
            weight[at] = mask[at]
            if gaussian:
                rows, columns = slice(place.top, place.bottom), slice(place.left, place.right)
                weight[*at, rows, columns] *= gaussian_weight(place.height, place.width)
            top[at] = top_count(place, top_share)
            outside = grid[0] * grid[1] - len(place)
            top_leaks[at] = min(int(top[at]), len(place) * outside)
            present[at] = 1
            reached[at] = reach[picture][number]
    inside = mask.flatten(2).bool()
    leaks = inside[..., :, None] & ~inside[..., None, :]
    return Places(
        tokens=tokens.to(device),
        has_token=has_token.to(device),
        mask=mask.to(device),
        weight=weight.to(device),
        leaks=leaks.to(device),
        top=_top(top, device),
        top_leaks=_top(top_leaks, device),
        present=present.to(device),
        reach=reached.to(device),
        cells=cells,
        called=tuple(tuple(own) for own in called),
    )


def _top(counts: Tensor, device: torch.device) -> Top:
    return Top(counts.to(device), int(counts.max()) if counts.numel() else 0)
