"""Tables as the LoRA-Composer paper prints them: image and text similarity by style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from toolkit.evaluation.table import Interval, ScoreRow, mean_interval
from toolkit.layout.layout import Layout

_RESAMPLES = 2000


@dataclass(frozen=True)
class Cell:
    """One method in one style. image, text: averaged as the paper's code does; None without one.

    The intervals are over pictures. pictures: how many there are.
    """

    COLUMNS: ClassVar = (
        "pictures", "image_similarity", "image_low", "image_high",
        "text_similarity", "text_low", "text_high",
    )  # fmt: skip

    pictures: int
    image: float
    text: float | None
    image_interval: Interval
    text_interval: Interval | None

    def values(self) -> list[object]:
        """Under COLUMNS; nothing where there is none."""
        image, text = self.image_interval, self.text_interval
        return [
            self.pictures, f"{self.image:.4f}", f"{image.low:.4f}", f"{image.high:.4f}",
            *(("", "", "") if text is None or self.text is None
              else (f"{self.text:.4f}", f"{text.low:.4f}", f"{text.high:.4f}")),
        ]  # fmt: skip


def cell_of(rows: Sequence[ScoreRow], layouts: Mapping[str, Layout]) -> Cell:
    """The scores of one method and judge in one style; `rows` are not empty."""
    image = mean_interval(rows, "image_similarity", _RESAMPLES)
    assert image is not None
    return Cell(
        len({row.picture for row in rows}),
        _as_published(rows, "image_similarity", layouts) or 0.0,
        _as_published(rows, "text_similarity", layouts),
        image,
        mean_interval(rows, "text_similarity", _RESAMPLES),
    )


def _as_published(
    rows: Sequence[ScoreRow], score: str, layouts: Mapping[str, Layout]
) -> float | None:
    """The mean over pictures, then subjects, then settings, then numbers of concepts."""
    values: dict[int, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        value = getattr(row, score)
        if value is not None:
            of_count = values.setdefault(len(layouts[row.layout].concepts), {})
            of_count.setdefault(row.layout, {}).setdefault(row.concept, []).append(float(value))
    means = [
        _mean([_mean([_mean(own) for own in subjects.values()]) for subjects in settings.values()])
        for settings in values.values()
    ]
    return _mean(means) if means else None


def shown(title: str, rows: Mapping[str, Mapping[str, Cell]], styles: Sequence[str]) -> str:
    """The table on screen: I and T of each style and the mean over the styles that a row has."""
    heads = [f"{style}-{kind}" for style in (*styles, "mean") for kind in "IT"]
    lines = [f"{title:34}" + "".join(f"{head:>14}" for head in heads)]
    for name, cells in rows.items():
        found = [cells.get(style) for style in styles]
        there = [cell for cell in found if cell is not None]
        texts = [cell.text for cell in there if cell.text is not None]
        values: list[float | None] = []
        for cell in found:
            values += [None, None] if cell is None else [cell.image, cell.text]
        values.append(_mean([cell.image for cell in there]) if there else None)
        values.append(_mean(texts) if texts else None)
        lines.append(f"  {name:32}" + "".join(f"{_number(value):>14}" for value in values))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
