"""What ends composing from outside."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


@contextmanager
def ended_by_sigterm(trainer: Trainer) -> Iterator[None]:
    """Within, SIGTERM ends the process at once, and the processes that `trainer` started.

    What is finished is whole, and the rest is made later. The trainer has `HeedSigterm`.
    """
    before = signal.getsignal(signal.SIGTERM)
    _heed(trainer)
    try:
        yield
    finally:
        if _may_set_handlers():
            signal.signal(signal.SIGTERM, before)


class HeedSigterm(Callback):
    """Takes the signal again once Lightning, on its way to the predict loop, has taken it.

    Lightning's own handler notes it for a training loop, and has the processes tell each other in
    the middle of a picture, which fails when one of them is gone already.
    """

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _heed(trainer)


def _heed(trainer: Trainer) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if _may_set_handlers():
        signal.signal(signal.SIGTERM, end)


def _may_set_handlers() -> bool:
    return threading.current_thread() is threading.main_thread()
