"""One progress bar for the whole batch: done, failed, rate, time left."""

from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from toolkit.composition.module import Composition


class BatchProgress(Callback):
    """Counts pictures, on the first process, in units of its own share of the work."""

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self.failed = 0
        self.bar: tqdm[Any] | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar = tqdm(total=self.pictures, unit="picture", desc="composing")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.bar is None:
            return
        compositions: Sequence[Composition] = outputs
        self.failed += sum(composition.error is not None for composition in compositions)
        self.bar.set_postfix(failed=self.failed)
        left = self.pictures - self.bar.n
        self.bar.update(min(len(compositions) * trainer.world_size, left))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
