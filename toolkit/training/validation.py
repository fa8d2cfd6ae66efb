"""Measures, while a concept is learned, the loss on what training does not see."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from toolkit.training.every_step import EveryStep
from toolkit.training.fixed_draws import FEWEST_DRAWS, as_they_are, batches, unseen_cuts
from toolkit.training.learner import Learner
from toolkit.training.loss_curve import (
    Measured,
    lowest,
    since_lowest,
    told,
    write_figure,
    write_table,
)
from toolkit.training.module import ConceptTraining
from toolkit.training.views import ImageViews

logger = logging.getLogger(__name__)


class Validation(EveryStep):
    """Two losses at the same noise and timesteps, every so many steps, and the best weights.

    Its state is part of the checkpoint: a training that goes on measures and stops as one that was
    never interrupted.
    held_out, trained: images that training does not see (where there are none, unseen cuts of the
        trained ones stand in), and those that it does; set once the base is loaded.
    keep: whether the weights of the lowest loss are kept. patience: see TrainingConfig.
    """

    held_out: ImageViews
    trained: ImageViews

    def __init__(
        self, folder: Path, every: int, batch_size: int, seed: int, keep: bool, patience: int | None
    ) -> None:
        self.folder = folder
        self.every = every
        self.batch_size = batch_size
        self.seed = seed
        self.keep = keep
        self.patience = patience
        self.curve: list[Measured] = []
        self.best: dict[str, Tensor] = {}

    @property
    def has_ended(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and since_lowest(self.curve) >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"curve": [asdict(one) for one in self.curve], "best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.curve = [Measured(**one) for one in state_dict["curve"]]
        self.best = dict(state_dict["best"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, ConceptTraining)
        if not self.curve:
            self.measure(trainer, pl_module, trainer.global_step)
        trainer.should_stop = trainer.should_stop or self.has_ended

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        assert isinstance(training, ConceptTraining)
        if step % self.every == 0 or step == trainer.max_steps:
            self.measure(trainer, training, step)
            trainer.should_stop = trainer.should_stop or self.has_ended

    def measure(self, trainer: Trainer, training: ConceptTraining, step: int) -> None:
        """Add a point to the curve. The first process measures; the others hear of it."""
        losses = [*self._losses(training)] if trainer.is_global_zero else []
        self.curve.append(Measured(step, *trainer.strategy.broadcast(losses)))
        if self.keep and lowest(self.curve) is self.curve[-1]:
            self.best = training.written_weights()
        if trainer.is_global_zero:
            write_table(self.curve, self.folder / "losses.csv")
            write_figure(self.curve, training.name, self.folder / "losses.png")

    def conclude(self, steps: int) -> None:
        """Say what the curve said."""
        rank_zero_only(logger.info)("%s", told(self.curve, steps, self.keep))

    @torch.no_grad()
    def _losses(self, training: ConceptTraining) -> Iterator[float]:
        """Of what is held out, and of what is trained on: means over the same draws."""
        if self.held_out.images:
            sides = [(self.held_out, as_they_are(self.held_out))]
        else:
            sides = [(self.trained, unseen_cuts(self.trained))]
        sides.append((self.trained, as_they_are(self.trained)))
        draws = max(FEWEST_DRAWS, len(sides[0][1]))
        device = training.base.device
        with training.as_written(), torch.autocast(device.type, enabled=False):
            for images, shown in sides:
                errors = [
                    training.errors(batch.to(device), training.prompts(batch)).cpu()
                    for batch in batches(
                        images,
                        shown,
                        draws,
                        self.batch_size,
                        training.schedule.timesteps,
                        self.seed,
                    )
                ]
                yield float(torch.cat(errors).mean())
