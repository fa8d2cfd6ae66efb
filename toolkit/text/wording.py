"""Numbers, lists of names and lengths of time in messages."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """`1 mask`, `2 masks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def lasting(seconds: float) -> str:
    """`less than a minute`, `about 3 minutes`, `about 2.5 hours`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"about {counted(minutes, 'minute')}"
    return f"about {minutes / 60:.3g} hours"
