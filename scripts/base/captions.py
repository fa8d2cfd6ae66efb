"""Plain-English captions that say what is there, in which style, where, and on what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

OPENINGS = ("", "", "", "", "", "a picture of ", "an image of ", "a drawing of ", "a photo of ")
POSES = ("sitting", "standing", "looking at us")


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return f"an {noun}" if noun[0] in "aeio" else f"a {noun}"


def object_phrase(rng: np.random.Generator, name: str, style: str) -> str:
    """ "a 3d dog", mostly; sometimes "a dog in 3d style", "a dog"."""
    draw = rng.random()
    if draw < 0.72:
        return f"a {style} {name}"
    if draw < 0.80:
        return f"{article(name)} in {style} style"
    return article(name)


def place_phrase(x: float, y: float) -> str:
    """Where a centre at fractions (x, y) of the canvas stands, or "" if that has no plain name."""
    across = "on the left" if x < 0.40 else "on the right" if x > 0.60 else ""
    along = "at the top" if y < 0.40 else "at the bottom" if y > 0.62 else ""
    if across and along:
        return across
    return across or along or "in the middle"


def one_caption(rng: np.random.Generator, subject: str, place: str, background: str) -> str:
    """A caption of one object; `place` and `background` may be ""."""
    said = place if rng.random() < 0.4 else ""
    pose = str(rng.choice(POSES)) if rng.random() < 0.06 else ""
    if background and rng.random() < 0.12:
        return _join(background + ",", subject, said)
    return str(rng.choice(OPENINGS)) + _join(subject, pose, said, background)


def two_caption(
    rng: np.random.Generator, left: str, right: str, apart: bool, background: str
) -> str:
    """A caption of two objects; `apart` says that the first stands clearly left of the second."""
    opening = str(rng.choice(OPENINGS))
    draw = rng.random()
    if apart and draw < 0.55:
        return opening + _join(f"{left} on the left and {right} on the right", background)
    if apart and draw < 0.65:
        return opening + _join(f"{right} on the right and {left} on the left", background)
    if apart and draw < 0.73:
        return opening + _join(f"{left} to the left of {right}", background)
    # as one reads, so that the order of names says something too
    first, second = (left, right) if apart or rng.random() < 0.5 else (right, left)
    joint = "next to" if rng.random() < 0.2 else "and"
    return opening + _join(f"{first} {joint} {second}", background)


def many_caption(rng: np.random.Generator, subjects: Sequence[str], background: str) -> str:
    """A caption of three or more objects, named from left to right, the upper row first."""
    return str(rng.choice(OPENINGS)) + _join(
        f"{', '.join(subjects[:-1])} and {subjects[-1]}", background
    )


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
