"""The queue: what is to be made, is being made, and was made; kept on disk for the next server."""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.files import whole_file
from toolkit.ui.events import Begun, Ended, Event, Finished
from toolkit.ui.orders import Kind, Order

log = logging.getLogger(__name__)

MOST_WAITING = 1000
_MOST_REMEMBERED = 200
_ATTEMPTS = 2


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    """The server ended before the job did."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True)
class Job:
    """An order on its way. Times are seconds since 1970. error: what failed, or why it was lost."""

    id: str
    order: Order
    state: State = State.QUEUED
    error: str | None = None
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    pictures: tuple[Finished, ...] = ()


class Jobs:
    """All jobs in the order in which they came; safe to use from several threads."""

    def __init__(self, record: Path, changed: Callable[[Job], None] = lambda job: None) -> None:
        """record: the file that outlives the server. changed: told each job that changed.

        Jobs that an earlier server left unfinished are there, as lost.
        """
        self._record = record
        self._changed = changed
        self._lock = threading.Condition()
        self._closed = False
        self._jobs = {job.id: _lost(job) for job in _read(record)}

    def listed(self) -> list[Job]:
        """Every job, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def find(self, job: str) -> Job | None:
        """The job of this id."""
        with self._lock:
            return self._jobs.get(job)

    def submit(self, order: Order) -> Job:
        """Put an order behind the others. Raises InputError when too many wait already."""
        with self._lock:
            waiting = sum(job.state is State.QUEUED for job in self._jobs.values())
            if waiting >= MOST_WAITING:
                raise InputError(f"{waiting} jobs wait already: wait, or delete some")
            job = Job(uuid.uuid4().hex[:12], order, submitted=time.time())
            self._put(job)
            self._lock.notify_all()
        return job

    def take(self) -> Job | None:
        """The next job, from now on running; waits for it. None when the queue was closed."""
        with self._lock:
            while not self._closed:
                waiting = [job for job in self._jobs.values() if job.state is State.QUEUED]
                if waiting:
                    (job, *_) = waiting
                    return self._put(
                        replace(
                            job,
                            state=State.RUNNING,
                            started=time.time(),
                            attempts=job.attempts + 1,
                            pictures=(),
                        )
                    )
                self._lock.wait()
        return None

    def stop(self, job: str) -> Job | None:
        """End a job that waits; one that runs is the worker's to end. The job, or None."""
        with self._lock:
            found = self._jobs.get(job)
            if found is None or found.state is not State.QUEUED:
                return found
            return self._put(replace(found, state=State.STOPPED, ended=time.time()))

    def heard(self, job: str, event: Event) -> None:
        """Keep what the worker told of a job that runs."""
        with self._lock:
            found = self._jobs[job]
            if isinstance(event, Finished):
                self._put(replace(found, pictures=(*found.pictures, event)))
            elif isinstance(event, Begun):
                self._put(found)
            elif isinstance(event, Ended):
                self._put(_ended(found, event))

    def abandoned(self, job: str, reason: str) -> None:
        """The worker died over a job: it is tried once more, in front of the others."""
        with self._lock:
            found = self._jobs[job]
            if found.attempts < _ATTEMPTS and not self._closed:
                self._put(replace(found, state=State.QUEUED, error=reason))
            else:
                said = f"{reason}, {found.attempts} times"
                self._put(replace(found, state=State.FAILED, error=said, ended=time.time()))

    def close(self) -> None:
        """No job begins any more."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _put(self, job: Job) -> Job:
        self._jobs[job.id] = job
        over = [one.id for one in self._jobs.values() if one.state.is_over]
        for old in over[: max(0, len(over) - _MOST_REMEMBERED)]:
            del self._jobs[old]
        try:
            with whole_file(self._record) as temporary:
                temporary.write_text(json.dumps([asdict(one) for one in self._jobs.values()]))
        except OSError as error:  # a full disk: the queue itself goes on
            log.warning("the queue cannot be kept in %s: %s", self._record, error.strerror)
        self._changed(job)
        return job


def _ended(job: Job, event: Ended) -> Job:
    failed = [one for one in job.pictures if one.error]
    error = event.error
    if error is None and failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        error = f"seed {failed[0].seed}: {failed[0].error}{more}"
    state = State.STOPPED if event.stopped else State.FAILED if error else State.DONE
    return replace(job, state=state, error=error, ended=time.time())


def _lost(job: Job) -> Job:
    if job.state.is_over:
        return job
    said = (
        "the server ended while it was made"
        if job.state is State.RUNNING
        else ("the server ended before it was made")
    )
    return replace(job, state=State.LOST, error=f"{said}; queue it again")


def _read(record: Path) -> list[Job]:
    """The jobs of an earlier server; none where the record cannot be read."""
    try:
        content: Any = json.loads(record.read_text())
        return [_job(one) for one in content]
    except (OSError, ValueError, TypeError, LookupError):
        return []


def _job(content: Any) -> Job:
    ordered = content["order"]
    order = Order(
        **ordered
        | {"kind": Kind(ordered["kind"]), "arguments": tuple(map(str, ordered["arguments"]))}
    )
    pictures = tuple(Finished(**one) for one in content["pictures"])
    state = State(content["state"])
    return Job(**content | {"order": order, "state": state, "pictures": pictures})
