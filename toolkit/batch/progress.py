"""One progress bar for the whole batch: done, failed, rate, time left."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from toolkit.batch.data import share_of
from toolkit.batch.journal import DONE, Item, read_entry
from toolkit.batch.module import Composer
from toolkit.sampling import Step


class BatchProgress(Callback):
    """Counts denoising steps, so that a single slow picture shows its time left as well.

    It stands on the first process and takes the others to be as far. Its last number is that of
    what was made, or has failed, by all of them: `end` asks the journal.
    """

    def __init__(self, items: Sequence[Item], folder: Path) -> None:
        self.items = items
        self.folder = folder
        self.bar: tqdm[Any] | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Composer)
        self.steps_of = pl_module.passes_of
        self.all = self._steps(self.items)
        own = share_of(self.items, trainer.global_rank, trainer.world_size)
        self.own = self._steps(own)
        self.ended = self.failed = self.passed = self.of_batch = self.most = 0
        self.bar = tqdm(
            total=self.all,
            unit="step",
            desc=f"composing {len(self.items)}",
            mininterval=0.2 if sys.stderr.isatty() else 10.0,  # in a log every line stays
        )
        pl_module.on_step = self._watch

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.bar is not None:
            self.of_batch, self.most = 0, self._steps(batch)

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
        self.ended += len(outputs)
        self.passed += self._steps(batch)
        self.failed += sum(composition.error is not None for composition in outputs)
        self.of_batch = 0
        self.bar.set_postfix(done=self.ended - self.failed, failed=self.failed, refresh=False)
        self._advance(0)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self.bar is not None:  # what ended the run is then told on a line of its own
            self.bar.close()

    def end(self) -> None:
        """Show what all processes have made, now that none is at work any more."""
        if self.bar is None:
            return
        read = {item: read_entry(item.path(self.folder, ".json")) for item in self.items}
        ended = {item: entry for item, entry in read.items() if entry is not None}
        done = sum(entry.get("status") == DONE for entry in ended.values())
        self.bar.set_postfix(done=done, failed=len(ended) - done, refresh=False)
        self.bar.update(self._steps(ended) - self.bar.n)
        self.bar.close()

    def _steps(self, items: Iterable[Item]) -> int:
        return sum(map(self.steps_of, items))

    def _watch(self, step: Step) -> None:
        if step.number >= 0:
            self._advance(len(step.latents))

    def _advance(self, pictures: int) -> None:
        """A batch that is made again in halves after an error counts its steps once."""
        assert self.bar is not None
        self.of_batch = min(self.of_batch + pictures, self.most)
        share = (self.passed + self.of_batch) / self.own
        self.bar.update(int(share * self.all) - self.bar.n)
