"""Numbers that a person typed."""

LARGEST = 1e30
"""Weights and losses are 32-bit floats, in which more than this, times a weight, is infinite."""


def is_number(value: object) -> bool:
    """Whether a value is a number that can be computed with."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST  # type: ignore[operator]
