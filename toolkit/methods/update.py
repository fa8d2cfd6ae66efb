"""Keeps a guidance update where it belongs, small, and true to the latents' statistics.

Eq. 10 moves every latent of the canvas by as much as the gradient says. Shapes: latents and moves
are (pictures, channels, h, w); a reach is (pictures, 1, h, w), 1 where cells may move.
"""

import torch
from torch import Tensor


def reach_of(regions: Tensor, moving: Tensor) -> Tensor:
    """(pictures, 1, h, w): 1 in the regions that still move.

    regions: (pictures, regions, h, w), 1 in each. moving: (pictures, regions) or (pictures, 1), 0
    for those that do not.
    """
    acting = regions * (moving > 0)[..., None, None]
    return acting.amax(dim=1, keepdim=True)


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
