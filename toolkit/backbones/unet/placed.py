"""Low-rank changes that act each in its own region, all regions in two matrix products.

The paper lets a concept act through cross-attention alone. Here its changes of self-attention's
maps, and of cross-attention's queries, act as well where its region is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from toolkit.concept import LowRank
from toolkit.layout.cells import Cells, cell_mask, cover_of

RegionCells = tuple[Cells | None, ...]
"""Each region's cells at one map size, in the layout's order; None where it holds none."""


@dataclass(frozen=True)
class PlacedChanges:
    """What a layout's regions change of one linear map, their ranks side by side.

    down: (ranks, in). up: (out, ranks). ranks: how many of them are each region's, in turn.
    """

    down: Tensor
    up: Tensor
    ranks: tuple[int, ...]

    def __call__(self, x: Tensor, regions: RegionCells, size: tuple[int, int]) -> Tensor:
        """(rows, cells, in) to (rows, cells, out): in each cell the mean change of its regions."""
        shares = _shares_of_ranks(regions, self.ranks, *size, x.device, x.dtype)
        return ((x @ self.down.T) * shares) @ self.up.T


def side_by_side(changes: Sequence[Mapping[str, LowRank]]) -> dict[str, PlacedChanges]:
    """Each region's changes by path, as one for each path that any region changes."""
    placed = {}
    for path in dict.fromkeys(path for own in changes for path in own):
        pairs = [own.get(path) for own in changes]
        there = [pair for pair in pairs if pair is not None]
        placed[path] = PlacedChanges(
            down=torch.cat([pair.down for pair in there]),
            up=torch.cat([pair.up for pair in there], dim=1),
            ranks=tuple(0 if pair is None else len(pair.down) for pair in pairs),
        )
    return placed


def shares_of_regions(
    regions: RegionCells, height: int, width: int, device: torch.device
) -> Tensor:
    """(regions, height, width): 1 / (regions that hold the cell) in a region, 0 elsewhere."""
    there = [cells for cells in regions if cells is not None]
    cover = cover_of(there, torch.zeros(height, width, device=device)).clamp(min=1)
    nowhere = torch.zeros_like(cover)
    masks = [nowhere if cells is None else cell_mask(cells, height, width, device)
             for cells in regions]  # fmt: skip
    return torch.stack(masks) / cover


@lru_cache(maxsize=128)
def outside_of(
    regions: RegionCells, height: int, width: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(cells, 1): 1 where no region is."""
    held = shares_of_regions(regions, height, width, device).sum(dim=0).flatten()
    return (held == 0).to(dtype)[:, None]


@lru_cache(maxsize=128)
def _shares_of_ranks(
    regions: RegionCells,
    ranks: tuple[int, ...],
    height: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """(cells, ranks); kept, because every layer of a size asks for it again at every step."""
    shares = shares_of_regions(regions, height, width, device).flatten(1)
    return shares.repeat_interleave(torch.tensor(ranks, device=device), dim=0).T.to(dtype)
