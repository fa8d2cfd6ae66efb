"""Pictures as the judges' networks read them."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from toolkit.layout.layout import Box
from toolkit.layout.pixels import pixel_box


def batch_of(
    pictures: Sequence[Image.Image], side: int, mean: Sequence[float], deviation: Sequence[float]
) -> Tensor:
    """(n, 3, side, side): the shorter edge scaled to `side`, the middle cut out, normalised.

    mean, deviation: of the three colours in 0..1. What CLIP's own preprocessing does.
    """
    stacked = torch.from_numpy(np.stack([np.asarray(_square(p, side)) for p in pictures]))
    pixels = stacked.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (pixels - torch.tensor(mean).view(shape)) / torch.tensor(deviation).view(shape)


def crop(image: Image.Image, box: Box) -> Image.Image:
    """What lies in a box of fractions, at least a pixel."""
    return image.crop(pixel_box(box, *image.size))


def _square(picture: Image.Image, side: int) -> Image.Image:
    scale = side / min(picture.size)
    size = (max(side, int(picture.width * scale)), max(side, int(picture.height * scale)))
    sized = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = (sized.width - side) // 2, (sized.height - side) // 2
    return sized.crop((left, top, left + side, top + side))
