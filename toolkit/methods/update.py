"""Keeps a guidance update where it belongs, small, and true to the latents' statistics.

Eq. 10 moves every latent of the canvas by as much as the gradient says. Shapes: latents and moves
are (pictures, channels, h, w); a reach is (pictures, 1, h, w), 1 where cells may move.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.layout.cells import Cells


def reach_of(
    regions: Sequence[Sequence[Cells | None]], factors: Sequence[Sequence[float]], zeros: Tensor
) -> Tensor:
    """`zeros`, (pictures, 1, h, w), with 1 in the regions whose factor is not 0."""
    for picture, cells, weights in zip(zeros, regions, factors, strict=True):
        for own, weight in zip(cells, weights, strict=True):
            if own is not None and weight:
                picture[:, own.top : own.bottom, own.left : own.right] = 1
    return zeros


def deviation_of(latents: Tensor) -> Tensor:
    """(pictures,) the standard deviation of each picture's latents."""
    return latents.flatten(1).std(dim=1)


def limited(move: Tensor, latents: Tensor, limit: float) -> Tensor:
    """`move` with no cell going farther than `limit` times the latents' deviation.

    A cell's length is the root mean square over its channels; its direction is kept.
    """
    length = move.square().mean(dim=1, keepdim=True).sqrt()
    farthest = limit * deviation_of(latents)[:, None, None, None]
    return move * (farthest / length.clamp(min=torch.finfo(move.dtype).tiny)).clamp(max=1)


def with_statistics_of(latents: Tensor, moved: Tensor, reach: Tensor) -> Tensor:
    """`moved` with the mean and deviation that `latents` have in each picture's reach."""
    mean, deviation = _statistics(latents, reach)
    own_mean, own_deviation = _statistics(moved, reach)
    kept = (moved - own_mean) / own_deviation * deviation + mean
    return torch.where(reach > 0, kept, moved)


def _statistics(latents: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the cells in reach, (pictures, 1, 1, 1) each."""
    dims = (1, 2, 3)
    count = (reach.sum(dim=dims, keepdim=True) * latents.shape[1]).clamp(min=1)
    mean = (latents * reach).sum(dim=dims, keepdim=True) / count
    variance = ((latents - mean).square() * reach).sum(dim=dims, keepdim=True) / count
    return mean, variance.sqrt().clamp(min=torch.finfo(latents.dtype).tiny)
