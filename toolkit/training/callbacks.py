"""What happens beside the training steps: checkpoints, samples, measurements, the progress bar."""

import csv
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm

from toolkit.files import whole_file
from toolkit.training.ed_lora import token_names
from toolkit.training.grid import captioned_grid
from toolkit.training.module import ConceptTraining
from toolkit.training.sampling import sample


class _EveryStep(Callback):
    """Calls `after_step` once for each optimiser step, however many batches it takes."""

    last = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.last = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self.last:
            self.last = trainer.global_step
            assert isinstance(pl_module, ConceptTraining)
            self.after_step(trainer, pl_module, trainer.global_step)

    def after_step(self, trainer: Trainer, training: ConceptTraining, step: int) -> None:
        raise NotImplementedError


class Checkpoints(_EveryStep):
    """Saves what training goes on from, every so many steps and when interrupted.

    Ctrl-C is answered after the step that runs: all processes save, and KeyboardInterrupt is
    raised. A second Ctrl-C is answered at once.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every
        self.interrupted = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, self.before)

        self.before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.before)

    def after_step(self, trainer: Trainer, training: ConceptTraining, step: int) -> None:
        interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if interrupted or step % self.every == 0 or step == trainer.max_steps:
            self.save(trainer)
        if interrupted:
            raise Interrupted

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint whole or not at all. All processes call this."""
        partial = self.path.with_name("partial.ckpt")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.path)


class Interrupted(Exception):
    """Ctrl-C, once the checkpoint is there. Lightning turns KeyboardInterrupt into exit code 1."""


class SampleGrids(_EveryStep):
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

    def after_step(self, trainer: Trainer, training: ConceptTraining, step: int) -> None:
        if not self.every or not (step % self.every == 0 or step == trainer.max_steps):
            return
        if trainer.is_global_zero and training.base.vae is not None:
            rows = [(prompt, self.pictures(training, prompt)) for prompt in self.prompts]
            self.newest = self.folder / f"step_{step:06d}.png"
            with whole_file(self.newest) as temporary:
                captioned_grid(rows, f"{training.name}, step {step}").save(temporary)
        trainer.strategy.barrier()

    @torch.no_grad()
    def pictures(self, training: ConceptTraining, prompt: str) -> Tensor:
        """(seeds, 3, height, width) in 0..1."""
        words = token_names(training.name)
        base = training.base
        with torch.autocast(base.device.type, enabled=False):
            latents = sample(
                base,
                prompt.replace(f"<{training.name}>", " ".join(words)),
                words,
                training.embeddings,
                self.seeds,
                self.size,
                self.steps,
                self.guidance_scale,
            )
        return base.decode(latents)


class Measurements(_EveryStep):
    """metrics.csv: a line for each step; on a resume it goes on where the checkpoint stands."""

    columns = ("step", "loss", "embedding_norm", "learning_rate_unet", "seconds")

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.started = time.perf_counter()
        if not trainer.is_global_zero:
            return
        kept: list[list[str]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                lines = [line for line in csv.reader(file) if len(line) == len(self.columns)]
            kept = [line for line in lines[1:] if int(line[0]) <= trainer.global_step]
        with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns, *kept])

    def after_step(self, trainer: Trainer, training: ConceptTraining, step: int) -> None:
        if not trainer.is_global_zero:
            return
        values = measured(trainer)
        row = [step, *(f"{values[name]:.6g}" for name in self.columns[1:-1])]
        row.append(f"{time.perf_counter() - self.started:.2f}")
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)


def measured(trainer: Trainer) -> dict[str, float]:
    """Loss, norm and learning rate of the step that just ended."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    _, unet, _ = trainer.optimizers[0].param_groups
    return {**values, "learning_rate_unet": unet["lr"]}


@dataclass
class WandbRun(_EveryStep):
    """The same in Weights & Biases; offline unless the person is logged in."""

    project: str
    name: str
    folder: Path
    max_images: int
    grids: SampleGrids

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, ConceptTraining)
        self.run, self.shown = None, 0
        self.logged: Path | None = None
        if trainer.is_global_zero:
            import wandb

            from toolkit.tracking.wandb import wandb_mode

            self.folder.mkdir(parents=True, exist_ok=True)
            self.run = wandb.init(
                project=self.project,
                name=self.name,
                dir=str(self.folder),
                mode=wandb_mode(),  # type: ignore[arg-type]
                job_type="train",
                config=pl_module.settings,
                settings=wandb.Settings(silent=True),
            )

    def after_step(self, trainer: Trainer, training: ConceptTraining, step: int) -> None:
        if self.run is None:
            return
        import wandb

        self.run.log(measured(trainer), step=step)
        newest = self.grids.newest
        if newest is not None and newest != self.logged and self.shown < self.max_images:
            self.run.log({"samples": wandb.Image(str(newest))}, step=step)
            self.logged, self.shown = newest, self.shown + 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.run is not None:
            self.run.finish()


class TimeLeft(_EveryStep):
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

    def after_step(self, trainer: Trainer, training: ConceptTraining, step: int) -> None:
        assert self.bar is not None
        self.bar.set_postfix(loss=f"{float(trainer.callback_metrics['loss']):.3f}", refresh=False)
        self.bar.update(step - self.bar.n)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()
