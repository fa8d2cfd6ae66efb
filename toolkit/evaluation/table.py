"""Scores as rows, and what they come to for each method, with intervals."""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

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
    image_similarity: float
    text_similarity: float | None
    vanished: bool | None
    confused: bool | None
    placement: float | None

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


SCORES = ("image_similarity", "text_similarity", "vanished", "confused", "placement")


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
    return _bootstrap(np.array(values), resamples) if values else None


def difference_interval(
    rows: Sequence[ScoreRow], others: Sequence[ScoreRow], score: str, resamples: int
) -> Interval | None:
    """The mean of a score minus that of another method, over the pictures that both made."""
    ours, theirs = _by_picture(rows, score), _by_picture(others, score)
    differences = [ours[picture] - theirs[picture] for picture in ours if picture in theirs]
    return _bootstrap(np.array(differences), resamples) if differences else None


def table(rows: Sequence[ScoreRow], resamples: int) -> str:
    """A line for each judge and method, and one for its image similarity below the first's."""
    lines = []
    for judge in dict.fromkeys(row.judge for row in rows):
        seen = [row for row in rows if row.judge == judge]
        methods = list(dict.fromkeys(row.method for row in seen))
        heads = ["image similarity", "text similarity", "vanished", "confused", "placement"]
        lines.append(f"judge {judge}: {'':10}" + "".join(f"{head:>24}" for head in heads))
        for method in methods:
            own = [row for row in seen if row.method == method]
            cells = (mean_interval(own, score, resamples) for score in SCORES)
            lines.append(f"  {method:20}" + "".join(f"{_shown(cell):>24}" for cell in cells))
        first = [row for row in seen if row.method == methods[0]]
        for method in methods[1:]:
            own = [row for row in seen if row.method == method]
            gap = difference_interval(first, own, "image_similarity", resamples)
            if gap is not None:
                sure = "" if gap.excludes_zero else "  (the interval holds 0)"
                lines.append(f"  {methods[0]} - {method}: image similarity {_shown(gap)}{sure}")
    return "\n".join(lines)


def _by_picture(rows: Sequence[ScoreRow], score: str) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        value = getattr(row, score)
        if value is not None:
            found.setdefault(row.picture, []).append(float(value))
    return {picture: sum(values) / len(values) for picture, values in found.items()}


def _bootstrap(values: np.ndarray, resamples: int) -> Interval:
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
