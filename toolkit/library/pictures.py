"""Pictures in memory, as the commands make them: compose, sample, and a picture step by step."""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from toolkit import sampling
from toolkit.backbones import Base
from toolkit.backbones.memory import pictures_that_fit
from toolkit.batch.exemplars import exemplars_of
from toolkit.concept import Concept
from toolkit.config.arguments import seeds as read_seeds
from toolkit.config.schema import SamplingConfig
from toolkit.errors import InputError
from toolkit.images.tensors import image_of, pixels_of
from toolkit.layout.layout import Layout, name_of
from toolkit.library.named import load_method, settings_of
from toolkit.methods import Method
from toolkit.methods.checks import check
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import Step, denoise, initial_noise
from toolkit.second.further import make_ready, run_to_end, take_further
from toolkit.second.plan import SecondPasses

if TYPE_CHECKING:
    from toolkit.methods.method import Prepared

log = logging.getLogger(__name__)


def compose(
    layout: Layout,
    concepts: Sequence[Concept],
    base: Base,
    *,
    method: str | Method = "lora_composer",
    seeds: int | Sequence[int] = 1,
    steps: int | None = None,
    guidance_scale: float | None = None,
    second: SecondPasses | None = None,
    watch: Callable[[Step], None] | None = None,
) -> list[Image.Image]:
    """One picture of the layout for each seed, in the seeds' order.

    concepts: those that the layout names, and others if you like. method: a name of
    `configs/method`, or a method. seeds: 4 means 0 to 3, [7, 11] those two. steps, guidance_scale:
    None takes the base's own. second: made larger, and refined, as SecondPasses(upscale=2) says.
    watch: shown each step of each batch (on a CPU a picture is a batch), and then of each picture's
    second passes.
    Raises InputError for what is wrong, before anything is made, and RunError as `denoise` does.
    """
    if base.vae is None:
        raise InputError(
            f"base {base.name} has no autoencoder, so it cannot make pictures; compose_steps gives "
            "latents"
        )
    numbers = read_seeds(_plain(seeds))
    job = _job(layout, concepts, base, method, steps, guidance_scale)
    further = _further(layout, concepts, base, job, second, watch or (lambda step: None))
    at_once = pictures_that_fit(base, layout.width, layout.height)
    pictures: list[Image.Image] = []
    for start in range(0, len(numbers), at_once):
        batch = numbers[start : start + at_once]
        latents = sampling.compose(
            base,
            job.method,
            [job.prepared] * len(batch),
            batch,
            job.sampling.steps,
            job.sampling.guidance_scale,
            watch or (lambda step: None),
        )
        with torch.no_grad():
            pixels = base.decode(latents)
            finished = [
                image_of(job.method.finish(picture, layout, seed, job.exemplars))
                for picture, seed in zip(pixels, batch, strict=True)
            ]
        pictures += map(further, finished, batch)
    return pictures


def _further(
    layout: Layout,
    concepts: Sequence[Concept],
    base: Base,
    job: "_Job",
    plan: SecondPasses | None,
    watch: Callable[[Step], None],
) -> Callable[[Image.Image, int], Image.Image]:
    """What takes a finished picture and its seed through second passes, if there are any."""
    if plan is None or not plan.is_asked:
        return lambda picture, seed: picture
    plan.check(job.method)
    plan.check_layout(layout, base.sizes, base.name)
    own = settings_of(base).model.size
    ready = make_ready(base, job.method, layout, _by_name(layout, concepts), plan, own)

    def taken(picture: Image.Image, seed: int) -> Image.Image:
        steps, scale = job.sampling.steps, job.sampling.guidance_scale
        pixels = pixels_of(picture)  # as its file would hold them
        further = take_further(base, job.method, ready, pixels, seed, plan, own, steps, scale)
        return image_of(run_to_end(further, watch).pixels)

    return taken


def compose_steps(
    layout: Layout,
    concepts: Sequence[Concept],
    base: Base,
    *,
    method: str | Method = "lora_composer",
    seeds: int | Sequence[int] = 1,
    steps: int | None = None,
    guidance_scale: float | None = None,
) -> Generator[Step, None, None]:
    """The steps of `compose` as they are done, all seeds in one batch; leaving the loop stops it.

    Raises InputError at once for what is wrong.
    """
    numbers = read_seeds(_plain(seeds))
    job = _job(layout, concepts, base, method, steps, guidance_scale)
    if job.method.finishes:
        raise InputError(f"{job.method.name} is not done with its steps: take compose")
    process = job.method.start(
        base, [job.prepared] * len(numbers), job.sampling.steps, job.sampling.guidance_scale
    )
    noise = initial_noise(base, layout.width, layout.height, numbers)
    return denoise(base, process, noise, job.sampling.steps)


def sample(
    concept: Concept,
    prompt: str,
    base: Base,
    *,
    seeds: int | Sequence[int] = 1,
    width: int | None = None,
    height: int | None = None,
    negative_prompt: str = "",
    steps: int | None = None,
    guidance_scale: float | None = None,
    watch: Callable[[Step], None] | None = None,
) -> list[Image.Image]:
    """Pictures of one concept alone, in the seeds' order; <NAME> in the prompt stands for it.

    width, height: in pixels; None takes the base's own. The rest is as in `compose`.
    """
    own = settings_of(base)
    layout = Layout(
        name=concept.name,
        prompt=prompt,
        negative_prompt=negative_prompt,
        width=own.width if width is None else width,
        height=own.height if height is None else height,
        background=concept.name,
    )
    return compose(
        layout,
        [concept],
        base,
        method=PUBLISHED,
        seeds=seeds,
        steps=steps,
        guidance_scale=guidance_scale,
        watch=watch,
    )


@torch.no_grad()
def pictures_of(base: Base, latents: Tensor) -> list[Image.Image]:
    """What (pictures, channels, h, w) latents show; of a step, `step.clean` is its preview."""
    return [image_of(pixels) for pixels in base.decode(latents)]


@dataclass(frozen=True)
class _Job:
    """A layout that was found right, and how it is made."""

    method: Method
    prepared: "Prepared"
    sampling: SamplingConfig
    exemplars: Mapping[str, Path]


def _job(
    layout: Layout,
    concepts: Sequence[Concept],
    base: Base,
    method: str | Method,
    steps: int | None,
    guidance_scale: float | None,
) -> _Job:
    chosen = {
        key: value
        for key, value in (("steps", steps), ("guidance_scale", guidance_scale))
        if value is not None
    }
    settings = replace(settings_of(base).sampling, **chosen)  # type: ignore[arg-type]
    if isinstance(method, str):
        method = load_method(method, base)
    method.check(layout)
    named = _by_name(layout, concepts)
    exemplars = exemplars_of(layout, method, lambda name: named[name].images)
    for remark in check(layout, base, named, method):
        log.warning("layout %s: %s", layout.name, remark)
    return _Job(method, method.prepare(base, layout, named), settings, exemplars)


def _by_name(layout: Layout, concepts: Sequence[Concept]) -> dict[str, Concept]:
    """The layout's concepts by what it calls them."""
    given = {concept.name: concept for concept in concepts}
    if len(given) < len(concepts):
        raise InputError("two of the concepts have one name: load one with name=ANOTHER")
    missing = [name for name in layout.concepts if name_of(name) not in given]
    if missing:
        raise InputError(
            f"layout {layout.name} names {', '.join(missing)}, and the concepts given are "
            f"{', '.join(given) or 'none'}: add what load_concept gives"
        )
    return {name: given[name_of(name)] for name in layout.concepts}


def _plain(seeds: int | Sequence[int]) -> object:
    """Seeds as a config holds them: a number or a list."""
    return seeds if isinstance(seeds, int | str) else list(seeds)
