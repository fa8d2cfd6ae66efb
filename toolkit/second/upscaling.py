"""A finished picture made larger, and denoised again with its regions acting on."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.memory import free_memory
from toolkit.layout.layout import Layout
from toolkit.layout.tiles import Tile, tiles_of
from toolkit.methods.method import Method, Process
from toolkit.sampling import Step, denoise_again, initial_noise
from toolkit.second.plan import SecondPasses, steps_of
from toolkit.second.resizing import enlarged_by, resized
from toolkit.second.tiled import Tiled

if TYPE_CHECKING:
    from toolkit.methods.method import Prepared


def enlarged(pixels: Tensor, larger: Layout, plan: SecondPasses, device: torch.device) -> Tensor:
    """(3, height, width) in 0..1 in the larger canvas's size, with nothing drawn anew."""
    if plan.upscaler is not None:
        pixels = enlarged_by(plan.upscaler, pixels, device)
    return resized(pixels, larger.width, larger.height)


def tiles_for(base: Base, larger: Layout, side: int | None, least: int) -> list[Tile]:
    """The tiles in which a canvas is denoised; the whole canvas where one is all of it.

    side: of a tile, in pixels; None: as large as free memory holds, and no smaller than `least`.
    """
    multiple = base.sizes.size_multiple
    if side is None:
        free = free_memory(base)
        side = max(larger.width, larger.height)
        least = max(least // multiple, 2) * multiple
        while side > least and _needed(base, larger, side) > free:
            side -= multiple
    return tiles_of(larger.width, larger.height, side, multiple)


def _needed(base: Base, larger: Layout, side: int) -> int:
    return base.bytes_of_canvas(min(side, larger.width), min(side, larger.height))


@torch.no_grad()
def upscale(
    base: Base,
    method: Method,
    prepared: "Prepared",
    pixels: Tensor,
    seed: int,
    tiles: list[Tile],
    steps: int,
    strength: float,
    guidance_scale: float,
) -> Generator[Step, None, Tensor]:
    """Denoise an enlarged picture again, step by step; gives (3, height, width) in 0..1.

    prepared: of the larger layout. pixels: (3, height, width) of the picture in that size.
    """
    count = steps_of(steps, strength)
    if not count:
        return pixels
    _, height, width = pixels.shape
    process: Process
    if len(tiles) > 1:
        process = Tiled(base, method, prepared, tiles, guidance_scale)
    else:
        process = method.again(base, [prepared], guidance_scale)
    latents = base.encode(pixels[None].to(base.device)).float()
    noise = initial_noise(base, width, height, [seed])
    for step in denoise_again(base, process, latents, noise, steps, steps - count):
        latents = step.latents
        yield step
    return base.decode(latents)[0]
