"""Pictures as the judges' networks read them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from toolkit.layout.layout import Box
from toolkit.layout.pixels import pixel_box

CPU = torch.device("cpu")
_AT_ONCE = 64
"""Crops that a network is shown together."""


@torch.no_grad()
def embedded(
    pictures: Sequence[Image.Image],
    prepare: Callable[[Sequence[Image.Image]], Tensor],
    network: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Tensor:
    """(n, dim) embeddings of unit length on the CPU, made on `device` in batches.

    prepare: pictures to (n, 3, side, side) pixels. network: those to (n, dim).
    """
    starts = range(0, len(pictures), _AT_ONCE)
    batches = (prepare(pictures[start : start + _AT_ONCE]) for start in starts)
    found = [network(pixels.to(device)).float().cpu() for pixels in batches]
    return F.normalize(torch.cat(found), dim=-1)


def batch_of(
    pictures: Sequence[Image.Image],
    side: int,
    mean: Sequence[float],
    deviation: Sequence[float],
    shorter: int | None = None,
) -> Tensor:
    """(n, 3, side, side): the shorter edge scaled, the middle cut out, normalised.

    mean, deviation: of the three colours in 0..1. shorter: pixels of the scaled edge; None: `side`.
    What CLIP's own preprocessing does, and with a longer edge DINOv2's.
    """
    squares = [np.asarray(_square(picture, side, shorter or side)) for picture in pictures]
    stacked = torch.from_numpy(np.stack(squares))
    pixels = stacked.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (pixels - torch.tensor(mean).view(shape)) / torch.tensor(deviation).view(shape)


def crop(image: Image.Image, box: Box) -> Image.Image:
    """What lies in a box of fractions, at least a pixel."""
    return image.crop(pixel_box(box, *image.size))


def _square(picture: Image.Image, side: int, shorter: int) -> Image.Image:
    scale = shorter / min(picture.size)
    size = (max(shorter, int(picture.width * scale)), max(shorter, int(picture.height * scale)))
    sized = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = (sized.width - side) // 2, (sized.height - side) // 2
    return sized.crop((left, top, left + side, top + side))
