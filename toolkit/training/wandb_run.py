"""A concept's training in Weights & Biases."""

from pathlib import Path

import wandb
from lightning import LightningModule, Trainer

from toolkit.tracking.wandb import start_run, tell_where
from toolkit.training.every_step import EveryStep
from toolkit.training.learner import Learner
from toolkit.training.measurements import measured
from toolkit.training.sample_grids import SampleGrids
from toolkit.training.validation import Validation


class WandbRun(EveryStep):
    """Logs measurements and grids; offline unless the person is logged in, and never asks."""

    run: wandb.Run | None = None

    def __init__(
        self,
        project: str,
        name: str,
        folder: Path,
        max_images: int,
        grids: SampleGrids,
        validation: Validation | None,
    ) -> None:
        self.project = project
        self.name = name
        self.folder = folder
        self.images_left = max_images
        self.grids = grids
        self.validation = validation
        self.logged: Path | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, Learner)
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run = start_run(self.project, self.folder, "train", self.name, pl_module.settings)

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        if self.run is None:
            return
        self.run.log(measured(trainer, training, self.validation), step=step)
        newest = self.grids.newest
        if newest is not None and newest != self.logged and self.images_left > 0:
            self.run.log({"samples": wandb.Image(str(newest))}, step=step)
            self.logged = newest
            self.images_left -= 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.run is not None:
            self.run.finish()
            tell_where(self.run)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self.run is not None:
            self.run.finish(exit_code=1)
            tell_where(self.run)
