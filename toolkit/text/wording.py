"""Numbers and lists of names in messages."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """`1 mask`, `2 masks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
