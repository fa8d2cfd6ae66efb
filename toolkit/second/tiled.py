"""One picture denoised in tiles, which overlap, at every step together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.backbones import Backbone
from toolkit.layout.tiles import Tile
from toolkit.methods.method import Method
from toolkit.methods.plain import Unguided

if TYPE_CHECKING:
    from toolkit.methods.method import Prepared


class Tiled(Unguided):
    """What a method predicts in each tile, averaged where tiles overlap (arXiv 2302.08113).

    The latents are one and are stepped as one, so tiles agree at every step. In a tile each region
    acts where it lies in it; a tile counts less towards its edges, so that none of them shows.
    """

    def __init__(
        self,
        base: Backbone,
        method: Method,
        prepared: "Prepared",
        tiles: Sequence[Tile],
        guidance_scale: float,
    ) -> None:
        self.parts = []
        for tile in tiles:
            size = base.latent_size(tile.width, tile.height)
            own = tuple(one.of_tile(tile) for one in prepared)
            process = method.again(base, [own], guidance_scale)
            self.parts.append((tile.within(*size), weights_of(tile, *size), process))

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(1, channels, h, w) noise (or velocity)."""
        summed = torch.zeros_like(latents)
        total = torch.zeros_like(latents[:1, :1])
        for (rows, columns), weights, process in self.parts:
            weights = weights.to(latents)
            found = process.predict(latents[..., rows, columns], number, timestep)
            summed[..., rows, columns] += weights * found
            total[..., rows, columns] += weights
        return summed / total


def weights_of(tile: Tile, rows: int, columns: int) -> Tensor:
    """(rows, columns): how much a tile counts in each of its cells, above 0.

    A hill along each side that ends at a quarter of it, and does not fall towards the canvas's own
    edges.
    """
    width, height = tile.canvas
    down = _hill(rows, tile.top > 0, tile.top + tile.height < height)
    across = _hill(columns, tile.left > 0, tile.left + tile.width < width)
    return down[:, None] * across[None]


def _hill(cells: int, falls_before: bool, falls_after: bool) -> Tensor:
    """(cells,): from near 0 up to 1 at a quarter, and down again."""
    middles = (torch.arange(cells) + 0.5) / cells
    rise = torch.ones(cells)
    if falls_before:
        rise = rise.minimum(middles * 4)
    if falls_after:
        rise = rise.minimum((1 - middles) * 4)
    return rise
