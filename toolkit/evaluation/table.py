"""Scores as rows, and what they come to for each method, with intervals."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from toolkit.evaluation.cost import COLUMNS, Cost, cells_of
from toolkit.files import whole_file


@dataclass(frozen=True)
class ScoreRow:
    """One concept in one picture, as one judge sees it; None where a score has no meaning."""

    method: str
    model: str
    layout: str
    seed: int
    concept: str
    judge: str
    regions: int
    """How many concepts stand in the picture's regions."""
    image_similarity: float | None = None
    text_similarity: float | None = None
    vanished: bool | None = None
    confused: bool | None = None
    placement: float | None = None
    strangeness: float | None = None
    spoilt: bool | None = None
    outside: float | None = None
    collapsed: bool | None = None
    whole_similarity: float | None = None
    scr_40: bool | None = None
    scr_50: bool | None = None
    scr_60: bool | None = None

    @property
    def picture(self) -> tuple[str, int]:
        """Which picture of the method it is in."""
        return self.layout, self.seed


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


SCORES = (
    "image_similarity",
    "text_similarity",
    "vanished",
    "confused",
    "placement",
    "strangeness",
    "spoilt",
    "outside",
    "collapsed",
    "whole_similarity",
    "scr_40",
    "scr_50",
    "scr_60",
)
BY_COUNT = (
    "image_similarity",
    "vanished",
    "confused",
    "collapsed",
    "spoilt",
    "outside",
    "scr_40",
)
"""What is also told by the number of concepts."""


def write_rows(rows: Sequence[ScoreRow], path: Path) -> None:
    """Write `scores.csv`: a row per picture and concept; nothing where a score has no meaning."""
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(ScoreRow)])
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in asdict(row).items()})


def mean_interval(rows: Sequence[ScoreRow], score: str, resamples: int) -> Interval | None:
    """The mean of a score over pictures, each the mean of its concepts; None without values.

    The interval is the bootstrap's over pictures: concepts of one picture are not independent.
    """
    values = list(_by_picture(rows, score).values())
    return bootstrap(np.array(values), resamples) if values else None


def difference_interval(
    rows: Sequence[ScoreRow], others: Sequence[ScoreRow], score: str, resamples: int
) -> Interval | None:
    """The mean of a score minus that of another method, over the pictures that both made."""
    ours, theirs = _by_picture(rows, score), _by_picture(others, score)
    differences = [ours[picture] - theirs[picture] for picture in ours if picture in theirs]
    return bootstrap(np.array(differences), resamples) if differences else None


def table(rows: Sequence[ScoreRow], resamples: int, costs: Sequence[Cost] = ()) -> str:
    """Each judge's scores: a line for each method, the differences to the first, and by count.

    costs: stand beside the scores of their methods.
    """
    cost_of = {cost.method: cost for cost in costs}
    lines = []
    for judge in dict.fromkeys(row.judge for row in rows):
        seen = [row for row in rows if row.judge == judge]
        scores = scores_of(seen)
        by_method = {row.method: [r for r in seen if r.method == row.method] for row in seen}
        heads = (head_of(score) for score in scores)
        costly = "".join(f"{head:>14}" for head in COLUMNS) if costs else ""
        lines.append(f"judge {judge}: {'':10}" + "".join(f"{head:>24}" for head in heads) + costly)
        for method, own in by_method.items():
            cells = (mean_interval(own, score, resamples) for score in scores)
            paid = cells_of(cost_of.get(method)) if costs else []
            lines.append(
                f"  {method:20}"
                + "".join(f"{_shown(cell):>24}" for cell in cells)
                + "".join(f"{cell:>14}" for cell in paid)
            )
        first, *others = by_method
        for method in others:
            gap = difference_interval(by_method[first], by_method[method], scores[0], resamples)
            if gap is not None:
                sure = "" if gap.excludes_zero else "  (the interval holds 0)"
                name = head_of(scores[0])
                lines.append(f"  {first} - {method}: {name} {_shown(gap)}{sure}")
        if len({row.picture for row in seen}) == 1:
            lines.append("  of one picture: an interval needs more, as seeds=8 makes them")
        lines += _by_count(by_method, [score for score in BY_COUNT if score in scores])
    return "\n".join(lines)


def head_of(score: str) -> str:
    """What a score is called where people read it: SCR@0.4 for scr_40."""
    if score.startswith("scr_"):
        return f"SCR@0.{score[4]}"
    return score.replace("_", " ")


def scores_of(rows: Sequence[ScoreRow]) -> list[str]:
    """The scores that any of the rows has."""
    return [name for name in SCORES if any(getattr(row, name) is not None for row in rows)]


def _by_count(by_method: Mapping[str, Sequence[ScoreRow]], scores: Sequence[str]) -> list[str]:
    """For each score a line a method: its mean by the number of concepts in the picture."""
    counts = sorted({row.regions for rows in by_method.values() for row in rows})
    lines = []
    for score in scores if len(counts) > 1 else ():
        head = f"{head_of(score)}, by concepts"
        lines.append(f"  {head:32}" + "".join(f"{count:>10}" for count in counts))
        for method, rows in by_method.items():
            found = (
                list(_by_picture([row for row in rows if row.regions == count], score).values())
                for count in counts
            )
            means = (f"{sum(own) / len(own):.3f}" if own else "-" for own in found)
            lines.append(f"    {method:30}" + "".join(f"{mean:>10}" for mean in means))
    return lines


def _by_picture(rows: Sequence[ScoreRow], score: str) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        value = getattr(row, score)
        if value is not None:
            found.setdefault(row.picture, []).append(float(value))
    return {picture: sum(values) / len(values) for picture, values in found.items()}


def bootstrap(values: np.ndarray, resamples: int) -> Interval:
    """The mean of (n,) values, with the interval in which 95 % of resampled means lie."""
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def _shown(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.mean):
        return "-"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return round(value, 6) if isinstance(value, float) else value
