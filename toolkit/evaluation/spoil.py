"""Pictures spoilt on purpose, as a guidance that goes wrong spoils them: the judge's own test."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from toolkit.evaluation.texture import blurred
from toolkit.images.tensors import image_of, pixels_of


def noise(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Grain of deviation 0.12 on every pixel."""
    return pixels + 0.12 * torch.randn(pixels.shape, generator=generator)


def mosaic(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the 8 x 8 squares in the colour of another place."""
    tiles = functional.avg_pool2d(pixels[None], 8, ceil_mode=True)
    order = torch.randperm(tiles[0, 0].numel(), generator=generator)
    shuffled = tiles.flatten(2)[..., order].view_as(tiles)
    taken = (torch.rand(tiles[:, :1].shape, generator=generator) < 0.5).float()
    size = pixels.shape[1:]
    squares, mask = (
        functional.interpolate(part, scale_factor=8)[0, :, : size[0], : size[1]]
        for part in (shuffled, taken)
    )
    return pixels * (1 - mask) + squares * mask


def melted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Every place pulled some 8 pixels to another side, changing over some 6 pixels."""
    height, width = pixels.shape[1:]
    field = blurred(torch.randn(2, height, width, generator=generator), 6.0)
    field = 8 * field / field.std()
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = 2 * (columns + field[0]) / (width - 1) - 1
    y = 2 * (rows + field[1]) / (height - 1) - 1
    grid = torch.stack([x, y], dim=-1)[None]
    return functional.grid_sample(
        pixels[None], grid, padding_mode="reflection", align_corners=True
    )[0]


def specks(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """A dozen blots, 3 to 5 pixels wide, in loud colours."""
    spoilt = pixels.clone()
    height, width = pixels.shape[1:]
    for _ in range(12):
        side = int(torch.randint(3, 6, (), generator=generator))
        top = int(torch.randint(0, height - side, (), generator=generator))
        left = int(torch.randint(0, width - side, (), generator=generator))
        colour = (torch.rand(3, generator=generator) > 0.5).float()
        spoilt[:, top : top + side, left : left + side] = colour[:, None, None]
    return spoilt


WAYS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "noise": noise,
    "mosaic": mosaic,
    "melted": melted,
    "specks": specks,
}


def spoilt(picture: Image.Image, way: str, seed: int) -> Image.Image:
    """`picture` spoilt in one of WAYS; the same seed spoils it in the same places."""
    generator = torch.Generator().manual_seed(seed)
    return image_of(WAYS[way](pixels_of(picture), generator).clamp(0, 1))
