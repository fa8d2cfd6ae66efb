"""What training goes on from after it was stopped."""

import signal
import threading
from pathlib import Path
from types import FrameType

from lightning import LightningModule, Trainer

from toolkit.errors import Stopped
from toolkit.files import flushed
from toolkit.training.every_step import EveryStep
from toolkit.training.learner import Learner


class Interrupted(Exception):
    """Ctrl-C, once the checkpoint is there. Lightning turns KeyboardInterrupt into exit code 1."""


class Checkpoints(EveryStep):
    """Saves what training goes on from: every so many steps, and at the last one it reaches.

    Ctrl-C is answered after the step that runs: all processes save, and Interrupted is raised; for
    SIGTERM it is Stopped. A second Ctrl-C is answered at once.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every
        self.interrupted = False
        self.saved = 0

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

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.saved = trainer.global_step

    def after_step(self, trainer: Trainer, training: Learner, step: int) -> None:
        interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        stopped = trainer.strategy.reduce_boolean_decision(trainer.received_sigterm, all=False)
        if interrupted or stopped or step % self.every == 0:
            self.save(trainer)
        if interrupted:
            raise Interrupted
        if stopped:
            raise Stopped("ended by SIGTERM")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Also where Lightning ends early, as for `trainer.max_time`."""
        if trainer.global_step > self.saved:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint whole or not at all. All processes call this."""
        partial = self.path.with_name("partial.ckpt")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            flushed(partial).replace(self.path)
        self.saved = trainer.global_step
