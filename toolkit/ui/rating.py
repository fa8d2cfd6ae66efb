"""Pictures of several methods for the same layout and seed, and what people say of them."""

import csv
import math
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.batch.journal import DONE, read_entry
from toolkit.errors import InputError
from toolkit.evaluation.table import Interval, bootstrap

COLUMNS = ("rater", "layout", "seed", "method", "text", "subjects")
BEST = 5
"""Answers are 1 to 5."""


@dataclass(frozen=True)
class Case:
    """One layout and seed, as several methods made it.

    pictures: each method's file.
    """

    layout: str
    seed: int
    prompt: str
    concepts: tuple[str, ...]
    pictures: dict[str, Path]


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


def cases_of(output_dir: Path, methods: Sequence[str], layouts: Sequence[str]) -> list[Case]:
    """What all of `methods` made of the same layout; layouts: only those of these names, if any.

    Raises InputError where there is nothing that several methods made.
    """
    cases = []
    for path in sorted((output_dir / "compose" / methods[0]).glob("*/*.json")):
        found = {method: _entry(output_dir, method, path) for method in methods}
        drawn = [entry["inputs"]["layout"] for entry in found.values() if entry]
        whole = len(drawn) == len(methods) and all(one == drawn[0] for one in drawn)
        if whole and (not layouts or drawn[0]["name"] in layouts):
            pictures = {
                method: output_dir / "compose" / method / entry["image"]
                for method, entry in found.items()
                if entry
            }
            names = [region["concept"] for region in drawn[0]["regions"]]
            names += [drawn[0]["background"]] if drawn[0]["background"] else []
            concepts = tuple(dict.fromkeys(names))
            seed = int(path.stem)
            cases.append(Case(drawn[0]["name"], seed, drawn[0]["prompt"], concepts, pictures))
    if not cases:
        typed = " and ".join(f"toolkit compose method={method}" for method in methods)
        raise InputError(
            f"there is no layout and seed that {', '.join(methods)} all made pictures of under "
            f"{output_dir}: make them first, by {typed}"
        )
    return cases


class Ratings:
    """All answers, each on disk as soon as it is given."""

    def __init__(self, path: Path, cases: Sequence[Case]) -> None:
        """path: `ratings.csv`, whose answers of earlier days count as well."""
        self._path = path
        self._lock = threading.Lock()
        self.cases = list(cases)
        self._given = {(one.rater, one.layout, one.seed, one.method): one for one in _read(path)}

    def next_of(self, rater: str) -> int | None:
        """The number of the case that a person is shown next, in an order of their own."""
        order = list(range(len(self.cases)))
        random.Random(rater).shuffle(order)
        return next((number for number in order if self.left(rater, number)), None)

    def left(self, rater: str, number: int) -> list[int]:
        """The places of a case's pictures that a person has not rated yet."""
        case = self.cases[number]
        shown = enumerate(self.order(rater, number))
        return [
            place
            for place, method in shown
            if (rater, case.layout, case.seed, method) not in self._given
        ]

    def order(self, rater: str, number: int) -> list[str]:
        """The methods in the order in which a person sees a case's pictures."""
        methods = sorted(self.cases[number].pictures)
        random.Random(f"{rater} {number}").shuffle(methods)
        return methods

    def add(self, rater: str, number: int, place: int, text: int, subjects: int) -> None:
        """Keep an answer. A second one for the same picture stands in place of the first."""
        case, method = self.cases[number], self.order(rater, number)[place]
        one = Rating(rater, case.layout, case.seed, method, text, subjects)
        with self._lock:
            _append(self._path, one)
            self._given[rater, case.layout, case.seed, method] = one

    def summary(self, resamples: int) -> list[dict[str, Any]]:
        """For each method the mean of both questions, and its 95 % interval over pictures."""
        methods = sorted({method for case in self.cases for method in case.pictures})
        return [
            {"method": method, "ratings": len(self._of(method))}
            | {
                question: _values(self._interval(method, question, resamples))
                for question in ("text", "subjects")
            }
            for method in methods
        ]

    def _of(self, method: str) -> list[Rating]:
        return [one for one in self._given.values() if one.method == method]

    def _interval(self, method: str, question: str, resamples: int) -> Interval | None:
        """Over pictures, each the mean of who rated it: those are not independent."""
        by_picture: dict[tuple[str, int], list[int]] = {}
        for one in self._of(method):
            by_picture.setdefault((one.layout, one.seed), []).append(getattr(one, question))
        means = [sum(values) / len(values) for values in by_picture.values()]
        return bootstrap(np.array(means), resamples) if means else None


def _entry(output_dir: Path, method: str, path: Path) -> dict[str, Any] | None:
    """What another method's SEED.json of the same layout and seed says, if it is done."""
    entry = read_entry(output_dir / "compose" / method / path.parent.name / path.name)
    if entry is None or entry.get("status") != DONE or "inputs" not in entry:
        return None
    return entry


def _values(interval: Interval | None) -> dict[str, float] | None:
    if interval is None or math.isnan(interval.mean):
        return None
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _append(path: Path, one: Rating) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow([getattr(one, column) for column in COLUMNS])
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> list[Rating]:
    """The answers of a file; a line that was cut off is left out."""
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
