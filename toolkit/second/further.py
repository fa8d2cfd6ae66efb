"""A finished picture taken further, step by step: made larger, then its small regions refined."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from toolkit.backbones import Base, Conditioning
from toolkit.concept import Concept
from toolkit.layout.layout import Layout
from toolkit.methods.method import Method
from toolkit.sampling import Step
from toolkit.second.crops import Crop, crops_of
from toolkit.second.detailing import condition_crop, detail
from toolkit.second.plan import SecondPasses
from toolkit.second.upscaling import enlarged, tiles_for, upscale

if TYPE_CHECKING:
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class Ready:
    """A layout made ready for its second passes: all that depends on neither seed nor step.

    layout: on the finished picture's canvas. prepared: of it; None where nothing is made larger.
    crops: what is refined by itself.
    """

    layout: Layout
    prepared: "Prepared | None"
    crops: tuple[tuple[Crop, Conditioning], ...]


@dataclass(frozen=True)
class Taken:
    """A picture that was taken further. done: what was done to it, for its record."""

    pixels: Tensor
    done: Mapping[str, Any]


def make_ready(
    base: Base,
    method: Method,
    layout: Layout,
    concepts: Mapping[str, Concept],
    plan: SecondPasses,
    own: tuple[int, int],
) -> Ready:
    """Encode all that the second passes hear.

    own: the width and height that the base was trained at. Raises InputError as `Method.prepare`.
    """
    larger = plan.larger(layout)
    denoises = plan.enlarges and plan.upscale_strength > 0
    return Ready(
        larger,
        method.prepare(base, larger, concepts) if denoises else None,
        tuple(
            (crop, condition_crop(base, method, larger, concepts, crop))
            for crop in (crops_of(larger, own) if plan.detail else ())
        ),
    )


def take_further(
    base: Base,
    method: Method,
    ready: Ready,
    pixels: Tensor,
    seed: int,
    plan: SecondPasses,
    own: tuple[int, int],
    steps: int,
    guidance_scale: float,
) -> Generator[Step, None, Taken]:
    """Take a picture through its second passes, step by step; gives what came of it at the end.

    pixels: (3, height, width) in 0..1 as the picture's file holds them. own: as in `make_ready`.
    Raises RunError as `denoise` does.
    """
    done: dict[str, Any] = {}
    if plan.enlarges:
        pixels = enlarged(pixels, ready.layout, plan, base.device)
        done["size"] = [ready.layout.width, ready.layout.height]
    if ready.prepared is not None:
        tiles = tiles_for(base, ready.layout, plan.tile, min(own))
        done["tiles"] = [[tile.left, tile.top, tile.width, tile.height] for tile in tiles]
        pixels = yield from upscale(
            base, method, ready.prepared, pixels, seed, tiles, steps,
            plan.upscale_strength, guidance_scale,
        )  # fmt: skip
    if plan.detail:
        regions = ready.layout.regions
        done["refined"] = [
            {"region": crop.region, "concept": regions[crop.region].concept, "cut": list(crop.box)}
            for crop, _ in ready.crops
        ]
        pixels = yield from detail(
            base, ready.layout, ready.crops, pixels.cpu(), seed, steps,
            plan.detail_strength, guidance_scale,
        )  # fmt: skip
    return Taken(pixels.cpu(), done)


def run_to_end(steps: Generator[Step, None, Taken], watch: Callable[[Step], None]) -> Taken:
    """What came of `take_further`; each of its steps is shown on the way."""
    while True:
        try:
            step = next(steps)
        except StopIteration as ended:
            taken: Taken = ended.value
            return taken
        watch(step)
