"""Latent re-initialisation: start each concept from the noise it responds to most (eq. 11)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from toolkit.layout.cells import Cells


def best_window(response: Tensor, height: int, width: int) -> tuple[int, int]:
    """Top and left cell of the height x width window of `response` (h, w) with the largest sum."""
    sums = functional.avg_pool2d(response.double()[None, None], (height, width), stride=1)[0, 0]
    index = int(sums.flatten().argmax())
    return index // sums.shape[1], index % sums.shape[1]


def move_noise(
    noise: Tensor, responses: Sequence[Tensor], boxes: Sequence[Cells], factor: int
) -> Tensor:
    """Copy, for each concept, the noise under its best window into its box.

    noise: (channels, height, width) latents. responses: (h, w) each, on the guidance grid, which is
    `factor` times coarser. Every copy reads the original noise; later boxes win where they overlap.
    """
    moved = noise.clone()
    for response, box in zip(responses, boxes, strict=True):
        top, left = best_window(response, box.height, box.width)
        rows, columns = box.height * factor, box.width * factor
        source = noise[
            :, top * factor : top * factor + rows, left * factor : left * factor + columns
        ]
        y, x = box.top * factor, box.left * factor
        moved[:, y : y + rows, x : x + columns] = source
    return moved


def rescale_published(moved: Tensor, noise: Tensor) -> Tensor:
    """`moved` with the mean and (unbiased) standard deviation that `noise` had."""
    return (moved - moved.mean()) / moved.std() * noise.std() + noise.mean()


def rescale_paper(moved: Tensor) -> Tensor:
    """`moved` as a standard Gaussian: mean 0, standard deviation 1."""
    return (moved - moved.mean()) / moved.std()
