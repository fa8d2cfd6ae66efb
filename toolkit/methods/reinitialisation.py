"""Latent re-initialisation: start each concept from the noise it responds to most (eq. 11)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.layout.cells import Cells


def best_window(response: Tensor, place: Cells) -> tuple[int, int]:
    """Top and left cell of the window of `response` (h, w) with the largest sum (eq. 11).

    A window is the bounding box of `place`, and its sum is over the cells of it that `place` holds.
    """
    maps, size = response.double()[None, None], (place.height, place.width)
    if place.held is None:
        sums = functional.avg_pool2d(maps, size, stride=1)[0, 0]
    else:
        shape = _shape(place).to(maps)
        sums = functional.conv2d(maps, shape[None, None])[0, 0]
    index = int(sums.flatten().argmax())
    return index // sums.shape[1], index % sums.shape[1]


def move_noise(
    noise: Tensor, responses: Sequence[Tensor], places: Sequence[Cells], factor: int
) -> Tensor:
    """Copy, for each concept, the noise under its best window into its region, in that shape.

    noise: (channels, height, width) latents. responses: (h, w) each, on the guidance grid, which is
    `factor` times coarser. Every copy reads the original noise; later regions win where they
    overlap.
    """
    moved = noise.clone()
    for response, place in zip(responses, places, strict=True):
        top, left = best_window(response, place)
        rows, columns = place.height * factor, place.width * factor
        source = noise[
            :, top * factor : top * factor + rows, left * factor : left * factor + columns
        ]
        y, x = place.top * factor, place.left * factor
        into = moved[:, y : y + rows, x : x + columns]
        shape = _shape(place).to(noise.device)
        shape = shape.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)
        into.copy_(torch.where(shape, source, into))
    return moved


def _shape(place: Cells) -> Tensor:
    """(height, width) of its bounding box, true where `place` holds the cell."""
    if place.held is None:
        return torch.ones(place.height, place.width, dtype=torch.bool)
    held = torch.tensor(list(place.held), dtype=torch.bool)
    return held.view(place.height, place.width)


def rescale_published(moved: Tensor, noise: Tensor) -> Tensor:
    """`moved` with the mean and (unbiased) standard deviation that `noise` had."""
    return (moved - moved.mean()) / moved.std() * noise.std() + noise.mean()


def rescale_paper(moved: Tensor) -> Tensor:
    """`moved` as a standard Gaussian: mean 0, standard deviation 1."""
    return (moved - moved.mean()) / moved.std()
