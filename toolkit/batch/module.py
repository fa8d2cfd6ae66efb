"""Composing as a Lightning predict loop."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn import ModuleDict

from toolkit.backbones import Base, Conditioning
from toolkit.batch.composition import Composition, failure, refined_step
from toolkit.batch.journal import Item
from toolkit.batch.spent import Spent
from toolkit.concept import Concept
from toolkit.errors import InputError
from toolkit.layout.layout import Layout
from toolkit.methods import Method
from toolkit.sampling import Step, compose


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

    def passes_of(self, item: Item) -> int:
        """The denoising steps that `on_step` is shown of one picture."""
        return self.method.passes(self.steps)

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
        spent = Spent(self.base)
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
        for index, composition in enumerate(done):
            composition.latents = latents[index].cpu()
            composition.pixels = None if pixels is None else pixels[index]
        spent.write_into(done)
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

    def encode(self, item: Item) -> None:
        """Encode what a picture needs, before it is made."""
        self.conditioning(item.layout)

    def conditioning(self, layout: Layout) -> tuple[Conditioning, ...]:
        """The layout, encoded; kept while items of the same layout follow one another."""
        if layout.name not in self.ready:
            self.ready = {layout.name: self.method.prepare(self.base, layout, self.concepts)}
        return self.ready[layout.name]
