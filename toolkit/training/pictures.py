"""Pictures and masks from files to tensors of the size that the base was trained at."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from toolkit.errors import InputError

_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_picture(path: Path) -> Image.Image:
    """The picture as RGB, upright (EXIF), with what is transparent on white.

    Raises InputError, naming the file, when it is damaged or no picture.
    """
    image = _read(path)
    if image.mode.startswith("I"):  # 16-bit gray: PIL's own conversion would clip it
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def read_mask(path: Path) -> Image.Image:
    """The mask as one channel: white where the subject is; a mask in the alpha channel counts too.

    Raises InputError, naming the file, when it is damaged or nothing in it is white.
    """
    image = _read(path)
    if image.mode in ("RGBA", "LA") and np.asarray(image.getchannel("A")).min() < 255:
        image = image.getchannel("A")
    mask = image.convert("L")
    if np.asarray(mask).max() < 128:
        raise InputError(f"{path} (a mask in which nothing is white)")
    return mask


def fit(
    image: Image.Image, width: int, height: int, place: tuple[float, float] = (0.5, 0.5)
) -> Image.Image:
    """Scale `image` to cover width x height pixels, and cut that out of it.

    place: where the cut lies along the side that is too long, 0 (left, top) to 1.
    """
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS, centering=place)


def pixels_of(image: Image.Image) -> Tensor:
    """(3, height, width) in 0..1 from an RGB picture, (1, height, width) from a mask."""
    values = torch.from_numpy(np.array(image, dtype=np.float32)) / 255
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} (not a picture)") from error
    except _UNREADABLE as error:
        raise InputError(f"{path} ({str(error).strip() or 'damaged'})") from error
