"""The numbers of each step: in a file, and on one line of the terminal."""

import csv
import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from tqdm import tqdm

from toolkit.files import whole_file
from toolkit.text.wording import counted, lasting
from toolkit.training.every_step import EveryStep
from toolkit.training.learner import Learner
from toolkit.training.validation import Validation

logger = logging.getLogger(__name__)


def measured(
    trainer: Trainer, training: Learner, validation: Validation | None = None
) -> dict[str, float]:
    """What the step that just ended has logged, learning rates, and what validation measured."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    values |= training.measured_rates(trainer.optimizers[0])
    if validation is not None and validation.curve[-1].step == trainer.global_step:
        values["held_out_loss"] = validation.curve[-1].held_out
        values["trained_loss"] = validation.curve[-1].trained
    return values


class Measurements(EveryStep):
    """metrics.csv: a line for each step; on a resume it goes on where the checkpoint stands."""

    def __init__(self, path: Path, measures: Sequence[str]) -> None:
        self.path = path
        self.columns = ("step", *measures, "seconds")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.started = time.perf_counter()
        if not trainer.is_global_zero:
            return
        kept = self._lines_until(trainer.global_step) if self.path.is_file() else []
        with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *kept])

    def _lines_until(self, last: int) -> list[list[str]]:
        """The lines of steps up to `last`; damaged ones are left out, and counted."""
        text = self.path.read_bytes().decode("utf-8", errors="replace").replace("\0", "")
        lines = [line.split(",") for line in text.splitlines()[1:] if line]
        whole = [line for line in lines if self._is_whole(line)]
        if len(whole) < len(lines):
            logger.warning("%s: %d damaged lines left out", self.path, len(lines) - len(whole))
        return [line for line in whole if int(line[0]) <= last]

    def _is_whole(self, line: list[str]) -> bool:
        return len(line) == len(self.columns) and re.fullmatch(r"[0-9]{1,18}", line[0]) is not None

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        if not trainer.is_global_zero:
            return
        values = measured(trainer, training)
        row = [step, *(f"{values[name]:.6g}" for name in self.columns[1:-1])]
        row.append(f"{time.perf_counter() - self.started:.2f}")
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)


class TimeLeft(EveryStep):
    """One line: step, loss, time left."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.bar = tqdm(
            total=trainer.max_steps,
            initial=trainer.global_step,
            desc=self.label,
            unit="step",
            disable=not trainer.is_global_zero,
            dynamic_ncols=True,
            mininterval=1.0,
        )

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        assert self.bar is not None
        self.bar.set_postfix(loss=f"{float(trainer.callback_metrics['loss']):.3f}", refresh=False)
        self.bar.update(step - self.bar.n)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")


class TimeToCome(EveryStep):
    """Says once how long the rest will take, by what the first steps took.

    Not by the very first, which sets up what the others use. Grids of samples are counted beside
    it: what one takes is not known before it is made.
    """

    measured = 3
    """Steps."""

    def __init__(self, sample_every: int) -> None:
        """sample_every: steps from one grid of samples to the next; 0: there are none."""
        self.sample_every = sample_every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.first = trainer.global_step + 1

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        if step == self.first:
            self.started = time.perf_counter()
        left = trainer.max_steps - step
        if step != self.first + self.measured or not left or not trainer.is_global_zero:
            return
        seconds = (time.perf_counter() - self.started) / self.measured * left
        grids = 0
        if self.sample_every:
            grids = -(-trainer.max_steps // self.sample_every) - step // self.sample_every
        beside = f", and {counted(grids, 'grid')} of samples" if grids else ""
        with tqdm.external_write_mode():  # the bar stands on its line
            logger.info("%s to come%s", lasting(seconds), beside)
