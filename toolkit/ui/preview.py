"""What latents show, roughly and at once: a linear map from a latent's channels to colours."""

import io
from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from toolkit.backbones import Base
from toolkit.config.lookup import SHIPPED
from toolkit.images.tensors import image_of, pixels_of

_PICTURES = 8
_SIDE = 256
"""Pixels of the pictures that the map is fitted on: small, so that no base needs long for it."""


@torch.no_grad()
def fit_colours(base: Base) -> Tensor:
    """(channels + 1, 3): from a latent's channels and 1 to red, green and blue in 0..1.

    Least squares over what the base's autoencoder makes of the shipped pictures: each latent cell
    against the mean colour of the pixels that it stands for.
    """
    latents, colours = [], []
    for pixels in _pictures():
        encoded = base.encode(pixels[None].to(base.device)).float().cpu()
        channels = encoded.shape[1]
        latents.append(encoded[0].reshape(channels, -1).T)
        colours.append(
            adaptive_avg_pool2d(pixels, (encoded.shape[2], encoded.shape[3])).reshape(3, -1).T
        )
    seen = torch.cat(latents)
    return torch.linalg.lstsq(_with_one(seen), torch.cat(colours)).solution


def colours_of(latents: Tensor, colours: Tensor) -> Image.Image:
    """A picture of (channels, h, w) latents, one pixel for each cell; colours: `fit_colours`."""
    channels, height, width = latents.shape
    cells = latents.detach().float().cpu().reshape(channels, -1).T
    shown = (_with_one(cells) @ colours).clamp(0, 1)
    return image_of(shown.T.reshape(3, height, width))


def shade_of(attention: Tensor) -> Image.Image:
    """A gray picture of (h, w) attention, white at its highest."""
    scaled = (attention / attention.max().clamp(min=1e-12)).clamp(0, 1)
    return Image.fromarray((scaled * 255).round().to(torch.uint8).cpu().numpy())


def png_of(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def _with_one(cells: Tensor) -> Tensor:
    return torch.cat([cells, torch.ones(len(cells), 1)], dim=1)


def _pictures() -> Iterator[Tensor]:
    """(3, _SIDE, _SIDE) in 0..1: shipped pictures of every concept in turn."""
    folders = sorted((SHIPPED / "datasets").iterdir())
    by_folder = [sorted(folder.glob("*.png")) for folder in folders if folder.is_dir()]
    turns = [files[turn] for turn in range(_PICTURES) for files in by_folder if turn < len(files)]
    for path in turns[:_PICTURES]:
        with Image.open(path) as image:
            yield pixels_of(image.convert("RGB").resize((_SIDE, _SIDE)))
