"""One picture of a batch: what came of it, or why there is none."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from toolkit.batch.journal import Item
from toolkit.errors import InputError, RunError, one_line, ran_out_of_memory
from toolkit.methods.guidance import Guidance
from toolkit.tracking.figures import RefinedStep


@dataclass
class Composition:
    """One finished picture, or why there is none.

    pixels: (3, height, width) in 0..1; None when it failed, or the base has no autoencoder.
    latents: (channels, h, w). steps: one for each refined step.
    seconds, passes, guidance_passes: its share of what its batch took. passes are the denoising
        network's, each of one side of guidance. peak_memory: bytes of the GPU while the batch was
        made, the base included; None on a CPU. together: pictures in the batch.
    further: what second passes did, and to which picture; empty without any.
    trace: where an error that nobody foresaw came from.
    """

    item: Item
    pixels: Tensor | None = None
    latents: Tensor | None = None
    steps: list[RefinedStep] = field(default_factory=list)
    seconds: float = 0.0
    passes: float = 0.0
    guidance_passes: float = 0.0
    peak_memory: int | None = None
    together: int = 1
    further: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    trace: str | None = None


def failure(item: Item, error: Exception) -> Composition:
    """The picture that an error left unmade."""
    if ran_out_of_memory(error):
        return Composition(item, error=f"not enough memory: {one_line(error)}")
    if isinstance(error, InputError | RunError):
        return Composition(item, error=one_line(error))
    return Composition(
        item,
        error=f"{type(error).__name__}: {one_line(error)} (please report it, with SEED.json)",
        trace="".join(traceback.format_exception(error)),
    )


def refined_step(number: int, guidance: Guidance) -> RefinedStep:
    """What the figures show of one refined step of one picture."""
    parts = {name: float(part.sum()) for name, part in guidance.parts.items()}
    return RefinedStep(
        number=number,
        losses=parts | {"total": guidance.loss},
        maps=tuple(tokens.sum(dim=0).cpu() for tokens in guidance.maps),
    )
