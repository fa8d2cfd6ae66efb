"""A callback that acts once for each optimiser step."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from toolkit.training.learner import Learner


class EveryStep(Callback):
    """Calls `after_step` once for each optimiser step, however many batches it takes."""

    last = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.last = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self.last:
            self.last = trainer.global_step
            assert isinstance(pl_module, Learner)
            self.after_step(trainer, pl_module, trainer.global_step)

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        raise NotImplementedError
