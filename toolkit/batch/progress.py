"""One progress bar for the whole batch: done, failed, rate, time left."""

import sys
from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from toolkit.batch.module import Composer, Composition


class BatchProgress(Callback):
    """Counts denoising steps, so that a single slow picture shows its time left as well.

    It stands on the first process and takes the others to be as fast.
    """

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self.done = 0
        self.failed = 0
        self.bar: tqdm[Any] | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Composer)
        total = self.pictures * pl_module.method.passes(pl_module.steps)
        self.bar = bar = tqdm(
            total=total,
            unit="step",
            desc=f"composing {self.pictures}",
            mininterval=0.2 if sys.stderr.isatty() else 10.0,  # in a log every line stays
        )

        def advance(pictures: int) -> None:
            bar.update(min(pictures * trainer.world_size, total - bar.n))

        pl_module.on_step = advance

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
        failed = sum(composition.error is not None for composition in compositions)
        self.failed += failed
        self.done += len(compositions) - failed
        self.bar.set_postfix(done=self.done, failed=self.failed, refresh=False)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self.bar is not None:  # what ended the run is then told on a line of its own
            self.bar.close()
