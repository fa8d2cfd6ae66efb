"""Pictures and masks to and from tensors."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def pixels_of(image: Image.Image) -> Tensor:
    """(3, height, width) in 0..1 from an RGB picture, (1, height, width) from a mask."""
    values = torch.from_numpy(np.array(image, dtype=np.float32)) / 255
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)


def image_of(pixels: Tensor) -> Image.Image:
    """(3, height, width) in 0..1 to an 8-bit RGB picture."""
    values = (pixels.cpu().permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return Image.fromarray(values)
