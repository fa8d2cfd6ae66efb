"""What people say of pictures, as `toolkit rate` keeps it: read, and summed up by picture."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from toolkit.evaluation.table import Interval, bootstrap

RATINGS = "ratings.csv"
"""Under `OUTPUT_DIR/evaluation/`."""
COLUMNS = ("rater", "layout", "seed", "method", "text", "subjects")
BEST = 5
"""Answers are 1 to 5."""
Question = Literal["text", "subjects"]
QUESTIONS: tuple[Question, ...] = ("text", "subjects")


@dataclass(frozen=True)
class Rating:
    """What one person says of one picture. rater: a random word that stands for nobody's name.

    text: how well it matches the text; subjects: how much it looks like them; 1 to 5.
    """

    rater: str
    layout: str
    seed: int
    method: str
    text: int
    subjects: int


def read_ratings(path: Path) -> list[Rating]:
    """The answers of a file, none where there is no file; a line that was cut off is left out."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    found = []
    for row in rows:
        try:
            text, subjects = int(row["text"]), int(row["subjects"])
            found.append(
                Rating(row["rater"], row["layout"], int(row["seed"]), row["method"], text, subjects)
            )
        except (KeyError, ValueError, TypeError):
            continue
    return found


def rated(ratings: Iterable[Rating], question: Question, resamples: int) -> Interval | None:
    """The mean answer and its 95 % interval; None without any.

    Over pictures, each the mean of who rated it: those answers are not independent.
    """
    by_picture: dict[tuple[str, str, int], list[int]] = {}
    for one in ratings:
        answers = by_picture.setdefault((one.method, one.layout, one.seed), [])
        answers.append(one.text if question == "text" else one.subjects)
    means = [sum(values) / len(values) for values in by_picture.values()]
    return bootstrap(np.array(means), resamples) if means else None
