"""How many operations reach the device, for plain sampling and for ours: what a fast GPU waits for.

Stable Diffusion 1.5's structure, channels so narrow that one core does in seconds, 512 x 256. The
counts do not depend on the machine or on the widths. Prints a table, then one JSON line: `plain`,
and by number of concepts `ours` (boxes side by side) and `overlapping`. pass: one two-sided
denoising pass with its combination. guided: one guidance pass, losses, backward and update.
picture: text encoding, re-initialisation and 4 steps, 2 of them guided; latents only.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from sd15 import GUIDANCE_SCALE, NARROW, layout_of, plain_pipeline, random_base, random_concept
from torch import Tensor

from toolkit import sampling
from toolkit.backbones import Base, Conditioning
from toolkit.evaluation.kernels import KernelCounter
from toolkit.methods.lora_composer import LoraComposer
from toolkit.methods.refining import Refining

CONCEPTS = (1, 2, 3, 5, 8)
WIDTH, HEIGHT = 512, 256
STEPS = 4
METHOD = LoraComposer(adaptive_stop=False, max_guidance_steps=STEPS // 2 - 1)
"""The whole method, its constraints on for exactly half of the steps."""
SIDE_BY_SIDE, OVERLAPPING = 0.0, -0.3


@contextmanager
def scheduler_on_host(counter: KernelCounter, scheduler_type: type) -> Iterator[None]:
    """What schedulers set up is computed on the host, and their sigmas stay there."""
    originals = {name: getattr(scheduler_type, name) for name in ("__init__", "set_timesteps")}

    def aside(original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def call(scheduler: Any, *arguments: Any, **named: Any) -> None:
            before = counter.counts.copy()
            original(scheduler, *arguments, **named)
            counter.counts = before
            counter.keep_on_host(scheduler.sigmas)

        return call

    for name, original in originals.items():
        setattr(scheduler_type, name, aside(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(scheduler_type, name, original)


def count(work: Callable[[], object], base: Base) -> Counter[str]:
    """The operations by name that `work` sends to the device."""
    counter = KernelCounter()
    with scheduler_on_host(counter, type(base.scheduler(STEPS))), counter:
        work()
    return counter.counts


@torch.no_grad()
def count_plain(base: Base) -> dict[str, Counter[str]]:
    """A pass and a picture of diffusers' StableDiffusionPipeline."""
    pipeline = plain_pipeline(base, STEPS)
    latents = torch.randn(1, 4, HEIGHT // 8, WIDTH // 8)
    text = torch.randn(2, 77, base.text_encoder.config.hidden_size)
    timestep = pipeline.scheduler.timesteps[0]

    def one_pass() -> Tensor:
        noise = base.unet(torch.cat([latents] * 2), timestep, encoder_hidden_states=text).sample
        negative, positive = noise.chunk(2)
        return negative + GUIDANCE_SCALE * (positive - negative)

    def picture() -> None:
        pipeline(
            prompt="a picture",
            negative_prompt="a bad picture",
            latents=latents,
            width=WIDTH,
            height=HEIGHT,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            output_type="latent",
        )

    return {"pass": count(one_pass, base), "picture": count(picture, base)}


def on_the_way(base: Base, prepared: Sequence[Conditioning]) -> Refining:
    """A batch of one picture, attending as on a GPU: by masks, not by groups of cells."""
    return Refining(base, prepared, METHOD, STEPS, GUIDANCE_SCALE, grouped=False)


@torch.no_grad()
def count_ours(base: Base, concepts: int, margin: float) -> dict[str, Counter[str]]:
    """A denoising pass, a guidance pass with its update, and a picture of LoRA-Composer."""
    layout = layout_of(concepts, WIDTH, HEIGHT, margin)
    learned = {region.concept: random_concept(base, region.concept) for region in layout.regions}
    prepared = METHOD.prepare(base, layout, learned)
    latents = sampling.initial_noise(base, WIDTH, HEIGHT, [0])
    timestep = base.scheduler(STEPS).timesteps[0]
    process = on_the_way(base, prepared)
    process.predict(latents, 0, timestep)  # what is made for all steps is made now
    process.refine(latents, 0, timestep)

    def picture() -> None:
        begun = on_the_way(base, METHOD.prepare(base, layout, learned))
        for _ in sampling.denoise(base, begun, latents, STEPS):
            pass

    return {
        "pass": count(lambda: process.predict(latents, 1, timestep), base),
        "guided": count(lambda: process.refine(latents, 0, timestep), base),
        "picture": count(picture, base),
    }


def count_all(concepts: Sequence[int] = CONCEPTS) -> dict[str, Any]:
    """All counts, operations by name: plain, then ours and overlapping by number of concepts."""
    base = random_base("cpu", torch.float32, NARROW)
    return {
        "plain": count_plain(base),
        "ours": {str(n): count_ours(base, n, SIDE_BY_SIDE) for n in concepts},
        "overlapping": {str(n): count_ours(base, n, OVERLAPPING) for n in concepts if n > 1},
    }


def totals(counts: Mapping[str, Any]) -> dict[str, Any]:
    """`counts` with each set of operations as its number."""
    return {
        name: value.total() if isinstance(value, Counter) else totals(value)
        for name, value in counts.items()
    }


def table(numbers: Mapping[str, Any]) -> str:
    """One line for each run, each count with how many times plain sampling's it is."""
    plain = numbers["plain"]
    whole = {"pass": plain["pass"], "guided": plain["pass"], "picture": plain["picture"]}
    lines = [f"{'':<24}" + "".join(f"{name:>18}" for name in whole)]
    lines.append(f"{'plain':<24}{plain['pass']:>12,}{'':>24}{plain['picture']:>12,}")
    for kind in ("ours", "overlapping"):
        for concepts, found in numbers[kind].items():
            cells = [f"{found[name]:>12,} {found[name] / whole[name]:5.2f}" for name in whole]
            lines.append(f"{kind + ', ' + concepts:<24}" + "".join(cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--concepts", type=int, nargs="+", default=CONCEPTS)
    parser.add_argument("--by-name", action="store_true", help="also print the operations by name")
    arguments = parser.parse_args(argv)
    counts = count_all(arguments.concepts)
    if arguments.by_name:
        print(json.dumps(counts, indent=1))
    numbers = totals(counts)
    print(table(numbers))
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
