"""Pictures of the concept while it is learned."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor

from toolkit.files import whole_file
from toolkit.training.every_step import EveryStep
from toolkit.training.grid import captioned_grid
from toolkit.training.learner import Learner
from toolkit.training.sampling import sample


class SampleGrids(EveryStep):
    """Pictures of the concept as it is now: a row for each prompt, a column for each seed."""

    def __init__(
        self,
        folder: Path,
        every: int,
        prompts: Sequence[str],
        size: tuple[int, int],
        steps: int,
        guidance_scale: float,
        seeds: Sequence[int] = (0, 1, 2, 3),
    ) -> None:
        self.folder = folder
        self.every = every
        self.prompts = prompts
        self.size = size
        self.steps = steps
        self.guidance_scale = guidance_scale
        self.seeds = seeds
        self.newest: Path | None = None

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        if not self.every or not (step % self.every == 0 or step == trainer.max_steps):
            return
        if trainer.is_global_zero and training.base.vae is not None:
            rows = [(prompt, self.pictures(training, prompt)) for prompt in self.prompts]
            self.newest = self.folder / f"step_{step:06d}.png"
            with whole_file(self.newest) as temporary:
                captioned_grid(rows, f"{training.name}, step {step}").save(temporary)
        trainer.strategy.barrier()

    @torch.no_grad()
    def pictures(self, training: Learner, prompt: str) -> Tensor:
        """(seeds, 3, height, width) in 0..1."""
        base = training.base
        with training.as_written(), torch.autocast(base.device.type, enabled=False):
            latents = sample(
                base,
                training.heard(prompt),
                self.seeds,
                self.size,
                self.steps,
                self.guidance_scale,
            )
        return base.decode(latents)
