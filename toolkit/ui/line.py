"""The thread that takes one job after the other to the worker."""

import threading
from collections.abc import Callable, Iterator

from toolkit.errors import RunError, one_line
from toolkit.ui.device import Device
from toolkit.ui.events import Ended, Event
from toolkit.ui.jobs import Job, Jobs
from toolkit.ui.orders import Kind
from toolkit.ui.training import Trainings


class Line(threading.Thread):
    """Runs every job of the queue until it is closed."""

    def __init__(
        self, jobs: Jobs, device: Device, trainings: Trainings, tell: Callable[[str, Event], None]
    ) -> None:
        """tell: shown each event, with its job's id."""
        super().__init__(name="toolkit queue", daemon=True)
        self._jobs = jobs
        self._device = device
        self._trainings = trainings
        self._tell = tell

    def run(self) -> None:
        """Take jobs until there are no more to come."""
        while (job := self._jobs.take()) is not None:
            try:
                for event in self._events(job):
                    self._tell(job.id, event)
                    self._jobs.heard(job.id, event)
            except RunError as error:
                self._jobs.abandoned(job.id, one_line(error))
            except Exception as error:  # whatever it is, the next job is not to suffer
                self._jobs.heard(job.id, Ended(f"{type(error).__name__}: {one_line(error)}"))

    def stop(self, job: Job) -> None:
        """Have a job end that runs now."""
        if job.order.kind is Kind.TRAIN:
            self._trainings.stop(job.id)
        else:
            self._device.stop(job.id)

    def _events(self, job: Job) -> Iterator[Event]:
        if job.order.kind is Kind.TRAIN:
            return self._trainings.run(job.id, job.order)
        return self._device.make(job.id, job.order)
