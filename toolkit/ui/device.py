"""The worker process, from the server's side: started when it is needed, and again when it died."""

import multiprocessing
import threading
import time
from collections.abc import Iterator

from toolkit.config import ModelConfig
from toolkit.errors import RunError
from toolkit.ui.events import Ended, Event
from toolkit.ui.orders import Order
from toolkit.ui.worker import Answer, Question, Stop, Task, work

_PROCESSES = multiprocessing.get_context("spawn")
_GONE = (EOFError, OSError)


class Device:
    """One worker process. `make` is for one thread at a time, all else for any."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._number = 0
        self.start()

    def start(self) -> None:
        """Start the process; it loads the base while it waits for its first job."""
        self._jobs, jobs = _PROCESSES.Pipe()
        self._side, side = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(
            target=work, args=(jobs, side, self._model), name="toolkit worker", daemon=True
        )
        self.process.start()
        jobs.close()  # the worker's own: so that a pipe ends with it
        side.close()

    def make(self, job: str, order: Order) -> Iterator[Event]:
        """The events of a job, `Ended` last. Raises RunError when the worker dies over it."""
        if not self.process.is_alive():
            with self._asking:
                self.start()
        try:
            self._jobs.send(Task(job, order))
            while True:
                event: Event = self._jobs.recv()
                yield event
                if isinstance(event, Ended):
                    return
        except _GONE as error:
            self.process.join(5)
            raise RunError(f"the worker process ended ({_why(self.process.exitcode)})") from error

    def stop(self, job: str) -> None:
        """Have the worker end a job at its next step."""
        with self._lock:
            try:
                self._side.send(Stop(job))
            except _GONE:
                return

    def ask(self, order: Order, patience: float) -> Answer | None:
        """What the worker says of a layout; None when it has not said so within some seconds."""
        if not self._asking.acquire(timeout=patience):
            return None
        try:
            self._number += 1
            number, until = self._number, time.monotonic() + patience
            with self._lock:
                self._side.send(Question(number, order))
            while self._side.poll(max(0.0, until - time.monotonic())):
                answer: Answer = self._side.recv()
                if answer.number == number:
                    return answer
        except _GONE:
            pass
        finally:
            self._asking.release()
        return None

    def close(self) -> None:
        """End the process, at its next step if it is at work; by force where it does not."""
        self._jobs.close()
        self._side.close()
        self.process.join(3)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _why(code: int | None) -> str:
    if code == -9:
        return "killed: mostly because memory ran out"
    return f"exit code {code}"
