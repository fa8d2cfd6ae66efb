"""A concept's training in TensorBoard."""

from pathlib import Path

import numpy as np
from lightning import LightningModule, Trainer
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from toolkit.training.every_step import EveryStep
from toolkit.training.learner import Learner
from toolkit.training.measurements import measured
from toolkit.training.sample_grids import SampleGrids
from toolkit.training.validation import Validation


class TensorBoardRun(EveryStep):
    """Logs measurements and grids to `tensorboard/` in the run's folder."""

    writer: SummaryWriter | None = None

    def __init__(
        self, folder: Path, max_images: int, grids: SampleGrids, validation: Validation | None
    ) -> None:
        self.folder = folder
        self.images_left = max_images
        self.grids = grids
        self.validation = validation
        self.logged: Path | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self.writer = SummaryWriter(
                str(self.folder / "tensorboard"), purge_step=trainer.global_step + 1
            )

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        if self.writer is None:
            return
        for name, value in measured(trainer, training, self.validation).items():
            self.writer.add_scalar(name, value, step)
        newest = self.grids.newest
        if newest is not None and newest != self.logged and self.images_left > 0:
            with Image.open(newest) as grid:
                self.writer.add_image("samples", np.asarray(grid), step, dataformats="HWC")
            self.logged = newest
            self.images_left -= 1

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.writer is not None:
            self.writer.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")
