"""LoRA-Composer's sampling loop (fig. 2a): re-initialise; then refine, predict, step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.unet.attention import composed_attention
from toolkit.backbones.unet.conditioning import NEGATIVE, POSITIVE, Conditioning
from toolkit.backbones.unet.passes import unet_pass
from toolkit.backbones.unet.placed import shares_of_regions
from toolkit.errors import RunError
from toolkit.layout.cells import cells_of
from toolkit.methods.guidance import (
    Guidance,
    attention_maps,
    concept_maps,
    group_by_layout,
    refine,
    shares_of,
)
from toolkit.methods.method import Method, Preset
from toolkit.methods.pace import next_pace, start
from toolkit.methods.reinitialisation import move_noise, rescale_paper, rescale_published
from toolkit.methods.update import deviation_of

DESTROYED = 1.4
"""How much wider all updates together may make the latents.

Measured on the embedded base, a dog and a robot: clean pictures stay below 1.1, one of three times
the published step, which is bent but whole, is at 1.2, and those of 5 to 25 times, of which first
the canvas and then all is a mosaic, are at 1.7 to 4.2.
"""


@dataclass(frozen=True)
class Step:
    """What a watcher is shown after each step.

    number: -1 after re-initialisation, then 0, 1, ... timestep: the scheduler's.
    guidance: by picture (index in the batch), for those refined at this step.
    refined: the latents after the update, before denoising. latents: after the step.
    responses: only after re-initialisation: for each picture and region, (h, w, places).
    """

    number: int
    timestep: int
    guidance: dict[int, Guidance]
    refined: Tensor
    latents: Tensor
    responses: list[list[Tensor]]


Watcher = Callable[[Step], None]


def initial_noise(base: Base, width: int, height: int, seeds: Sequence[int]) -> Tensor:
    """(seeds, channels, h, w) standard noise; a seed's noise does not depend on the others."""
    shape = (1, base.latent_channels, height // base.pixels_per_latent)
    drawn = [
        torch.randn(
            (*shape, width // base.pixels_per_latent),
            generator=torch.Generator("cpu").manual_seed(seed),
        )
        for seed in seeds
    ]
    return torch.cat(drawn).to(base.device)


@torch.no_grad()
def compose(
    base: Base,
    conditionings: Sequence[Conditioning],
    seeds: Sequence[int],
    method: Method,
    steps: int = 50,
    guidance_scale: float = 7.5,
    watch: Watcher = lambda step: None,
) -> Tensor:
    """Sample one picture for each (conditioning, seed); all canvases have one size.

    Returns (pictures, channels, h, w) latents in float32. A picture does not depend on the others
    in its batch beyond rounding. Raises RunError when the latents stop being finite, or the updates
    have widened them beyond DESTROYED.
    """
    canvas = conditionings[0].layout
    latents = initial_noise(base, canvas.width, canvas.height, seeds)
    scheduler = base.scheduler(steps)
    scales = guidance_scales(conditionings, guidance_scale, latents[:, :1])
    paces = [start(len(c.regions), method) for c in conditionings]
    if method.reinitialisation and any(c.regions for c in conditionings):
        latents, responses = reinitialise(
            base, latents, scheduler.timesteps[0], conditionings, method
        )
        watch(Step(-1, int(scheduler.timesteps[0]), {}, latents, latents, responses))
    latents = latents * scheduler.init_noise_sigma
    spread = torch.ones(len(seeds), device=latents.device)
    for number, timestep in enumerate(scheduler.timesteps):
        guidance: dict[int, Guidance] = {}
        closed = number < method.constants.closed_share * steps
        active = [index for index, pace in enumerate(paces) if not pace.is_over]
        if active:
            refined, found = refine(
                base,
                latents[active],
                timestep,
                [conditionings[i] for i in active],
                method,
                method.step_size_at(number, steps),
                [paces[i] for i in active],
                closed,
            )
            rows = torch.tensor(active, device=latents.device)
            spread[rows] *= deviation_of(refined) / deviation_of(latents[rows])
            if (worst := float(spread.max())) > DESTROYED:
                raise RunError(
                    f"guidance has destroyed the picture at step {number} of {steps}: its latents "
                    f"have {worst:.1f} times the deviation that the base gives them; lower "
                    "method.step_size, or take method=balanced"
                )
            latents = latents.index_copy(0, rows, refined)
            for index, result in zip(active, found, strict=True):
                guidance[index] = result
                paces[index] = next_pace(paces[index], number, steps, result.losses, method)
        before = latents
        noise = predict(base, latents, timestep, conditionings, method, scales, closed)
        latents = scheduler.step(noise, timestep, latents).prev_sample
        if not latents.isfinite().all():
            raise RunError(f"the latents are no longer finite at step {number} of {steps}")
        watch(Step(number, int(timestep), guidance, before, latents, []))
    return latents


def reinitialise(
    base: Base,
    noise: Tensor,
    timestep: Tensor,
    conditionings: Sequence[Conditioning],
    method: Method,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Noise with each concept's preferred noise in its box (eq. 11), and the maps that chose it."""
    if method.preset is Preset.PAPER and method.refines:
        noise, _ = refine(base, noise, timestep, conditionings, method, method.constants.step_size)
    maps = attention_maps(base, noise, timestep, conditionings, method, self_attention=False)
    responses = concept_maps(base, conditionings, maps)
    pictures = []
    for picture, conditioning, regions in zip(noise, conditionings, responses, strict=True):
        boxes = []
        sums = []
        for region, response in zip(conditioning.regions, regions, strict=True):
            cells = cells_of(region.box, *response.shape[:2])
            assert cells is not None, "checked when the layout was prepared"
            boxes.append(cells)
            sums.append(response[..., list(region.places)].sum(dim=-1))
        moved = move_noise(picture, sums, boxes, base.guidance_downscale)
        if not boxes:
            pictures.append(picture)
        elif method.preset is Preset.PAPER:
            pictures.append(rescale_paper(moved))
        else:
            pictures.append(rescale_published(moved, picture))
    return torch.stack(pictures), responses


def guidance_scales(
    conditionings: Sequence[Conditioning], guidance_scale: float, cells: Tensor
) -> float | Tensor:
    """(pictures, 1, h, w): in each region its own scale, the mean of theirs where they overlap.

    cells: a tensor of that shape. The number itself where no region has a scale of its own.
    """
    if all(region.guidance_scale is None for c in conditionings for region in c.regions):
        return guidance_scale
    height, width = cells.shape[2:]
    scales = torch.full_like(cells, guidance_scale)
    for scale, conditioning in zip(scales, conditionings, strict=True):
        own = tuple(cells_of(region.box, height, width) for region in conditioning.regions)
        if own:
            shares = shares_of_regions(own, height, width, cells.device)
            gains = [
                0.0 if region.guidance_scale is None else region.guidance_scale - guidance_scale
                for region in conditioning.regions
            ]
            scale += torch.einsum("rhw,r->hw", shares, shares.new_tensor(gains))
    return scales


def predict(
    base: Base,
    latents: Tensor,
    timestep: Tensor,
    conditionings: Sequence[Conditioning],
    method: Method,
    guidance_scale: float | Tensor,
    closed: bool = False,
) -> Tensor:
    """The two-sided denoising pass: (pictures, channels, h, w) noise (or velocity), float32.

    guidance_scale: of classifier-free guidance, for all cells or (pictures, 1, h, w).
    """
    counts = [count for _, count in group_by_layout(conditionings)]
    doubled = torch.cat([part for own in latents.split(counts) for part in (own, own)])
    shares = shares_of(conditionings, (NEGATIVE, POSITIVE))
    size = (latents.shape[2], latents.shape[3])
    with composed_attention(base, shares, method, size, closed=closed):
        output = unet_pass(base, doubled, timestep, shares)
    pairs = [share.chunk(2) for share in output.float().split([2 * count for count in counts])]
    negative = torch.cat([pair[0] for pair in pairs])
    positive = torch.cat([pair[1] for pair in pairs])
    return negative + guidance_scale * (positive - negative)
