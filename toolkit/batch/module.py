"""Composing as a Lightning predict loop."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn import ModuleDict

from toolkit.backbones import Base, Conditioning
from toolkit.batch.journal import Item
from toolkit.concept import Concept
from toolkit.errors import InputError, RunError, one_line, ran_out_of_memory
from toolkit.layout.layout import Layout
from toolkit.methods import Method
from toolkit.methods.guidance import Guidance
from toolkit.sampling import Step, compose
from toolkit.tracking.figures import RefinedStep


@dataclass
class Composition:
    """One finished picture, or why there is none.

    pixels: (3, height, width) in 0..1; None when it failed, or the base has no autoencoder.
    latents: (channels, h, w). steps: one for each refined step.
    seconds, passes, guidance_passes: its share of what its batch took. passes are the denoising
        network's, each of one side of guidance. peak_memory: bytes of the GPU while the batch was
        made, the base included; None on a CPU. together: pictures in the batch.
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
    error: str | None = None
    trace: str | None = None


class Composer(LightningModule):
    """Composes a batch of (layout, seed) items in `predict_step`.

    concepts: by name, every one the items need. exemplars: an image of each, where the method is
    shown them.
    """

    def __init__(
        self,
        base: Base,
        concepts: Mapping[str, Concept],
        method: Method,
        steps: int,
        guidance_scale: float,
        exemplars: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__()
        self.exemplars = exemplars or {}
        self.base = base
        self.networks = ModuleDict(base.networks)
        self.concepts = concepts
        self.method = method
        self.steps = steps
        self.guidance_scale = guidance_scale
        self.ready: dict[str, tuple[Conditioning, ...]] = {}
        self.on_step: Callable[[Step], None] = lambda step: None
        """Shown each step of each batch; what it raises beyond Exception ends the batch."""

    def on_predict_start(self) -> None:
        """Refuse inference mode: the constraints need gradients of the latents."""
        if torch.is_inference_mode_enabled():
            raise InputError("composing needs gradients: give the Trainer inference_mode=False")

    def predict_step(self, batch: Sequence[Item], batch_idx: int) -> list[Composition]:
        """Compose every item; one that fails, for whatever reason, takes no other along."""
        try:
            return self._compose(batch)
        except Exception as error:
            if len(batch) == 1:
                return [failure(batch[0], error)]
        half = len(batch) // 2
        return self.predict_step(batch[:half], batch_idx) + self.predict_step(
            batch[half:], batch_idx
        )

    def _compose(self, batch: Sequence[Item]) -> list[Composition]:
        started, passes = time.perf_counter(), self.base.passes_made.copy()
        on_gpu = self.base.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.base.device)
        done = [Composition(item) for item in batch]

        def watch(step: Step) -> None:
            for index, guidance in step.guidance.items():
                done[index].steps.append(refined_step(step.number, guidance))
            self.on_step(step)

        ready = [self.conditioning(item.layout) for item in batch]
        seeds = [item.seed for item in batch]
        latents = compose(
            self.base, self.method, ready, seeds, self.steps, self.guidance_scale, watch
        )
        pixels = self._pixels(latents, batch)
        made = self.base.passes_made.since(passes)
        peak = torch.cuda.max_memory_allocated(self.base.device) if on_gpu else None
        seconds = (time.perf_counter() - started) / len(batch)
        for index, composition in enumerate(done):
            composition.latents = latents[index].cpu()
            composition.pixels = None if pixels is None else pixels[index]
            composition.seconds = seconds
            composition.passes = made.denoising / len(batch)
            composition.guidance_passes = made.guidance / len(batch)
            composition.peak_memory = peak
            composition.together = len(batch)
        return done

    @torch.no_grad()
    def _pixels(self, latents: Tensor, batch: Sequence[Item]) -> Sequence[Tensor] | None:
        """Each picture, (3, height, width) in 0..1 on the CPU; None without an autoencoder."""
        if self.base.vae is None and not self.method.finishes:
            return None
        return [
            self.method.finish(pixels, item.layout, item.seed, self.exemplars).cpu()
            for pixels, item in zip(self.base.decode(latents), batch, strict=True)
        ]

    def conditioning(self, layout: Layout) -> tuple[Conditioning, ...]:
        """The layout, encoded; kept while items of the same layout follow one another."""
        if layout.name not in self.ready:
            self.ready = {layout.name: self.method.prepare(self.base, layout, self.concepts)}
        return self.ready[layout.name]


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
