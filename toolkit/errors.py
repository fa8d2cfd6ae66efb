"""The two ways a command ends badly, and what the person is told."""


class InputError(Exception):
    """The input is wrong and nothing was started: one line for the person, exit code 2.

    The message says what is wrong, where, and what to do.
    """


class RunError(Exception):
    """Something failed while running: one line for the person, exit code 1."""
