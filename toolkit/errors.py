"""The ways a command ends badly, and what the person is told."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """The input is wrong and nothing was started: one line for the person, exit code 2.

    The message says what is wrong, where, and what to do.
    path: the same place for a program, from the outermost value that was read, as `model.width` or
        `regions[1].box` (counted from 0); empty where it is no single place, or is not known.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def within(path: str, said: str = "") -> Iterator[None]:
    """What is wrong inside lies within `path`; the message begins with `said` where that is given.

    So a place is put together on an error's way out: `box`, then `regions[1].box`.
    """
    try:
        yield
    except InputError as error:
        dot = "." if path and error.path and not error.path.startswith("[") else ""
        message = f"{said}: {error}" if said else str(error)
        raise InputError(message, f"{path}{dot}{error.path}") from error


class RunError(Exception):
    """Something failed while running: one line for the person, exit code 1."""


class Stopped(RunError):
    """Ended from outside (SIGTERM): nothing else is begun."""


def one_line(error: BaseException, longest: int = 300) -> str:
    """What an error says, on one line and cut to `longest`; its kind where it says nothing."""
    said = " ".join(str(error).split()) or type(error).__name__
    return shortened(said, longest)


def shortened(text: str, longest: int = 80) -> str:
    """`text` for a message: its beginning, where it is long."""
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."


def shown(value: object, longest: int = 80) -> str:
    """A value as a message can hold it, whatever it is: on one line, in ASCII where it must be."""
    try:
        text = repr(value)
        text.encode()
    except (RecursionError, ValueError):  # nested too deeply, half a character, too many digits
        text = ascii(value) if isinstance(value, str) else f"a {type(value).__name__}"
    return shortened(text, longest)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or a CPU's, for which torch has no own type."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = str(error)
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError)
        and ("DefaultCPUAllocator" in said or "not enough memory" in said)
    )
