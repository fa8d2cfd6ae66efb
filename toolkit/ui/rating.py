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

from toolkit.batch.journal import DONE, read_entry
from toolkit.config.schema import OtherPictures
from toolkit.errors import InputError
from toolkit.evaluation.ratings import COLUMNS, QUESTIONS, Rating, rated, read_ratings
from toolkit.evaluation.table import Interval


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


def cases_of(
    output_dir: Path,
    methods: Sequence[str],
    layouts: Sequence[str],
    others: Sequence[OtherPictures] = (),
) -> list[Case]:
    """What all of `methods` made of the same layout; layouts: only those of these names, if any.

    others: pictures of other programs, LAYOUT/SEED.png in a folder, shown among the methods' own.
    Raises InputError where there is nothing that all made.
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
            drew = {one.name: one.folder / path.parent.name / f"{path.stem}.png" for one in others}
            if not all(file.is_file() for file in drew.values()):
                continue
            names = [region["concept"] for region in drawn[0]["regions"]]
            names += [drawn[0]["background"]] if drawn[0]["background"] else []
            concepts = tuple(dict.fromkeys(names))
            seed = int(path.stem)
            cases.append(
                Case(drawn[0]["name"], seed, drawn[0]["prompt"], concepts, pictures | drew)
            )
    if not cases:
        given = [*methods, *(f"{one.name} ({one.folder})" for one in others)]
        typed = " and ".join(f"toolkit compose method={method}" for method in methods)
        raise InputError(
            f"there is no layout and seed that {', '.join(given)} all made pictures of under "
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
        self._given = {
            (one.rater, one.layout, one.seed, one.method): one for one in read_ratings(path)
        }

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
                question: _values(rated(self._of(method), question, resamples))
                for question in QUESTIONS
            }
            for method in methods
        ]

    def _of(self, method: str) -> list[Rating]:
        return [one for one in self._given.values() if one.method == method]


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
