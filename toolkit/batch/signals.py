"""What ends composing from outside."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within, SIGTERM ends the process at once: what is finished is whole, the rest is made later.

    Lightning takes the signal, tells it to the processes it started, and notes it for a training
    loop to see; a predict loop never looks. A handler that it finds set it calls afterwards.
    """
    if threading.current_thread() is not threading.main_thread():  # may not set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
