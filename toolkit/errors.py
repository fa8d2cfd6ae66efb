"""The ways a command ends badly, and what the person is told."""


class InputError(Exception):
    """The input is wrong and nothing was started: one line for the person, exit code 2.

    The message says what is wrong, where, and what to do.
    """


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


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or a CPU's, for which torch has no own type."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = str(error)
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError)
        and ("DefaultCPUAllocator" in said or "not enough memory" in said)
    )
