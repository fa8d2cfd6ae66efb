"""Trainings as jobs: `toolkit train` in a process of its own, watched by the files it leaves."""

import csv
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from toolkit.config import TrainConfig, read_train
from toolkit.training.asked import training_folder
from toolkit.ui.events import Ended, Event, Measured
from toolkit.ui.orders import Order

_LOOK_EVERY = 0.5
"""Seconds between two looks at the files of a training."""
_STOPPED = 130


class Trainings:
    """Runs one training at a time. It goes on from its checkpoint when it is queued again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped: set[str] = set()
        self._running: dict[str, subprocess.Popen[str]] = {}

    def run(self, job: str, order: Order) -> Iterator[Event]:
        """The training's measurements as they come, `Ended` last."""
        (config,) = read_train(order.arguments)
        command = [sys.executable, "-m", "toolkit", "train", *order.arguments]
        with self._lock:
            if job in self._stopped:
                yield Ended(stopped=True)
                return
            process = self._running[job] = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is the server's, which then says stop
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        said = _Said(process)
        told: Measured | None = None
        while said.is_alive():
            said.join(_LOOK_EVERY)
            now = measured(config)
            if now is not None and now != told:
                yield now
                told = now
        process.wait()
        with self._lock:
            del self._running[job]
        if job in self._stopped:
            yield Ended(stopped=True)
        elif process.returncode:
            yield Ended(said.last or f"training ended with exit code {process.returncode}")
        else:
            yield Ended()

    def stop(self, job: str) -> None:
        """End a training after the step that runs; its checkpoint is saved."""
        with self._lock:
            self._stopped.add(job)
            if job in self._running:
                self._running[job].send_signal(signal.SIGINT)

    def close(self) -> None:
        """End what runs."""
        for job in list(self._running):
            self.stop(job)


class _Said(threading.Thread):
    """Reads what a process says, so that it never waits, and keeps the last line of it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        super().__init__(daemon=True)
        self._process = process
        self.last = ""
        self.start()

    def run(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("toolkit:"):
                self.last = line.removeprefix("toolkit:").strip()


def measured(config: TrainConfig) -> Measured | None:
    """How far a training is, by the last line of its metrics.csv; None before the first."""
    folder = training_folder(config)
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        row = rows[-1]
        step, loss = int(row["step"]), float(row["loss"])
    except (OSError, LookupError, ValueError, TypeError):
        return None
    grids = sorted((folder / "samples").glob("*.png"))
    shown = tuple(str(grid.relative_to(config.output_dir)) for grid in grids)
    return Measured(step, config.training.steps, loss, shown)
