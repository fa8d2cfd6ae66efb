"""The process that owns the device: it makes one job at a time, and checks layouts meanwhile."""

import os
import signal
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from toolkit.config import ModelConfig
from toolkit.errors import InputError, RunError, one_line, ran_out_of_memory
from toolkit.ui.events import Ended, Event
from toolkit.ui.orders import Kind, Order, know_keys

if TYPE_CHECKING:
    from toolkit.ui.making import Maker


@dataclass(frozen=True)
class Task:
    """A job for the worker, by its id."""

    job: str
    order: Order


@dataclass(frozen=True)
class Stop:
    """The job of this id is to end."""

    job: str


@dataclass(frozen=True)
class Question:
    """Whether a layout can be made, and what is odd about it. number: the answer's as well."""

    number: int
    order: Order


@dataclass(frozen=True)
class Answer:
    """problem: why the layout cannot be made, and `path` where that is; None where it can."""

    number: int
    problem: str | None = None
    path: str = ""
    remarks: tuple[str, ...] = ()


class _Heard:
    """What came in while a job runs."""

    def __init__(self) -> None:
        self.stopped: set[str] = set()
        self.alone = threading.Event()
        """The server is gone."""

    def ends(self, job: str) -> bool:
        return job in self.stopped or self.alone.is_set()


def work(jobs: Connection, side: Connection, model: ModelConfig) -> None:
    """Load the base, then do each task that comes over `jobs`, telling its events there.

    Over `side` come questions, answered at once, and stops. Ends when the server does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which then says stop
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from toolkit.quiet import quiet_libraries

    quiet_libraries()
    know_keys()
    heard = _Heard()
    loaded: Future[Maker] = Future()
    threading.Thread(target=_listen, args=(side, loaded, heard), daemon=True).start()
    try:
        from toolkit.ui import making

        loaded.set_result(making.Maker(model))
    except Exception as error:
        loaded.set_exception(error)
    while True:
        try:
            task: Task = jobs.recv()
            jobs.send(_done(task, jobs, loaded, heard))
        except (EOFError, OSError):
            os._exit(0)  # the server is gone; torch's threads would grumble at Python's own end


def _done(task: Task, jobs: Connection, loaded: "Future[Maker]", heard: _Heard) -> Ended:
    """Do one task; how it ended."""
    from toolkit.ui.making import Cancelled

    def tell(event: Event) -> None:
        try:
            jobs.send(event)
        except OSError:  # the server is gone; an Exception would be taken for a failed picture
            raise Cancelled from None

    try:
        maker = loaded.result()
        if task.order.kind is Kind.IMPORT:
            maker.import_file(task.order)
        else:
            maker.compose(task.order, tell, lambda: heard.ends(task.job))
    except Cancelled:
        return Ended(stopped=True)
    except (InputError, RunError) as error:
        return Ended(one_line(error))
    except Exception as error:
        return Ended(_told(error))
    return Ended()


def _told(error: Exception) -> str:
    if ran_out_of_memory(error):
        return f"not enough memory: {one_line(error)}"
    if isinstance(error, OSError):
        return f"cannot write: {error.strerror or one_line(error)}"
    return f"{type(error).__name__}: {one_line(error)} (please report it)"


def _listen(side: Connection, loaded: "Future[Maker]", heard: _Heard) -> None:
    while True:
        try:
            message: Stop | Question = side.recv()
            if isinstance(message, Stop):
                heard.stopped.add(message.job)
            else:
                side.send(_answer(message, loaded))
        except (EOFError, OSError):
            heard.alone.set()
            return


def _answer(question: Question, loaded: "Future[Maker]") -> Answer:
    try:
        return Answer(question.number, remarks=tuple(loaded.result().check(question.order)))
    except InputError as error:
        return Answer(question.number, str(error), error.path)
    except Exception as error:
        return Answer(question.number, f"it could not be checked: {one_line(error)}")
