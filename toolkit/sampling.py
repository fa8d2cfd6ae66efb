"""The denoising loop: composing, rivals, samples and training's grids all go through it."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.backbones import Backbone
from toolkit.backbones.protocol import Scheduler
from toolkit.errors import RunError
from toolkit.methods.guidance import Guidance
from toolkit.methods.method import Method, OwnScheduler, Process

if TYPE_CHECKING:
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class Step:
    """What has been done after each step.

    number: -1 after re-initialisation, then 0, 1, ... timestep: the scheduler's.
    latents: (pictures, channels, h, w) after the step. clean: what the step predicts that they will
        be without noise; before the first prediction the latents themselves.
    refined: the latents after the update, before denoising.
    guidance: by picture (index in the batch), for those refined at this step.
    responses: only after re-initialisation: for each picture and region, (h, w, places).
    """

    number: int
    timestep: int
    latents: Tensor
    clean: Tensor
    refined: Tensor
    guidance: Mapping[int, Guidance] = field(default_factory=dict)
    responses: Sequence[Sequence[Tensor]] = ()


def initial_noise(base: Backbone, width: int, height: int, seeds: Sequence[int]) -> Tensor:
    """(seeds, channels, h, w) standard noise; a seed's noise does not depend on the others."""
    shape = (1, base.latent_channels, *base.latent_size(width, height))
    drawn = [
        torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds
    ]
    return torch.cat(drawn).to(base.device)


@torch.no_grad()
def denoise(
    base: Backbone, process: Process, noise: Tensor, steps: int
) -> Generator[Step, None, None]:
    """Sample a batch of pictures, step by step (fig. 2a); closing the generator ends the work.

    noise: (pictures, channels, h, w), as `initial_noise` draws it. A picture does not depend on the
    others in its batch beyond rounding.
    Raises RunError when the latents stop being finite, or as the process does.
    """
    scheduler: Scheduler = base.scheduler(steps)
    if isinstance(process, OwnScheduler):
        scheduler = process.scheduler
    latents, responses = process.begin(noise, scheduler.timesteps[0])
    if responses:
        first = int(scheduler.timesteps[0])
        yield Step(-1, first, latents, latents, latents, responses=responses)
    yield from _steps(process, scheduler, latents * scheduler.init_noise_sigma)


@torch.no_grad()
def denoise_again(
    base: Backbone, process: Process, latents: Tensor, noise: Tensor, steps: int, first: int
) -> Generator[Step, None, None]:
    """Noise latents up to step `first` of `steps`, and denoise them from there (arXiv 2108.01073).

    latents: (pictures, channels, h, w) of finished pictures. noise: as of `initial_noise`.
    The scheduler is the base's. Raises RunError as `denoise` does.
    """
    scheduler = base.scheduler(steps)
    scheduler.set_begin_index(first)
    noisy = scheduler.add_noise(latents, noise, scheduler.timesteps[first].expand(len(latents)))
    yield from _steps(process, scheduler, noisy, first)


def _steps(
    process: Process, scheduler: Scheduler, latents: Tensor, first: int = 0
) -> Generator[Step, None, None]:
    """The steps from `first` on."""
    for number, timestep in enumerate(scheduler.timesteps[first:], first):
        refined, guidance = process.refine(latents, number, timestep)
        noise = process.predict(refined, number, timestep)
        latents = scheduler.step(noise, timestep, refined).prev_sample
        if not latents.isfinite().all():
            raise RunError(
                f"the latents are no longer finite at step {number} of {len(scheduler.timesteps)}"
            )
        clean = scheduler.model_outputs[-1]
        yield Step(number, int(timestep), latents, clean, refined, guidance)


def compose(
    base: Backbone,
    method: Method,
    prepared: "Sequence[Prepared]",
    seeds: Sequence[int],
    steps: int = 50,
    guidance_scale: float = 7.5,
    watch: Callable[[Step], None] = lambda step: None,
) -> Tensor:
    """The latents of one picture for each of (`prepared`, seed); all canvases have one size.

    prepared: what `method.prepare` made of each picture's layout. watch: shown each step.
    Returns (pictures, channels, h, w) in float32. Raises RunError as `denoise` does.
    """
    canvas = prepared[0][0].layout
    latents = initial_noise(base, canvas.width, canvas.height, seeds)
    process = method.start(base, prepared, steps, guidance_scale)
    for step in denoise(base, process, latents, steps):
        watch(step)
        latents = step.latents
    return latents
