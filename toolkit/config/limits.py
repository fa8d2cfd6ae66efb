"""What a number may be, where its type allows more."""

from toolkit.errors import InputError

LARGEST_SEED = 2**63 - 1
"""What torch and the manifest's columns hold."""
MOST_STEPS = 10_000_000  # more is a slip of the keys: a year on the fastest GPU


def at_least(key: str, value: float, least: float) -> None:
    """key: as it is typed; its last part is the field."""
    if not value >= least:
        raise InputError(f"{key} must be at least {least}, got {value}", key.split(".")[-1])


def above(key: str, value: float, limit: float) -> None:
    """key: as it is typed; its last part is the field."""
    if not value > limit:
        raise InputError(f"{key} must be above {limit:g}, got {value}", key.split(".")[-1])


def between(key: str, value: int, least: int, most: int) -> None:
    """key: as it is typed; its last part is the field."""
    if not least <= value <= most:
        raise InputError(
            f"{key} must be at least {least} and at most {most}, got {value}", key.split(".")[-1]
        )


def share(key: str, value: float, most: float) -> None:
    """key: as it is typed; its last part is the field."""
    if not 0 <= value <= most:
        raise InputError(
            f"{key} must be at least 0 and at most {most:g}, got {value}", key.split(".")[-1]
        )
