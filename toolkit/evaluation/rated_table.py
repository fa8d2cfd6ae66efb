"""The user study's table of a protocol: what people answered on the page of `toolkit rate`."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.config.protocol import Row, Table
from toolkit.evaluation.plan import Plan, layouts_of
from toolkit.evaluation.ratings import QUESTIONS, RATINGS, Question, Rating, rated, read_ratings
from toolkit.evaluation.table import Interval
from toolkit.files import whole_file

log = logging.getLogger(__name__)

_HEADS: Mapping[Question, str] = {"text": "Text-to-Image", "subjects": "Image-to-Image"}
"""What the paper calls the two questions."""
_COLUMNS = ("row", "pictures", "answers", *(
    f"{question}{part}" for question in QUESTIONS for part in ("", "_low", "_high")
))  # fmt: skip


def write_rated(plan: Plan, table: Table, folder: Path) -> None:
    """Print the table and leave it in `folder`; one line instead where nobody has answered yet."""
    config = plan.parts[0].config
    path = config.output_dir / "evaluation" / RATINGS
    answers = read_ratings(path)
    rows = {row.name: _own(plan, table, row, answers) for row in table.rows}
    if not any(rows.values()):
        log.info(
            "%s is left out: %s holds no answers about its pictures; people give them on the page "
            "of toolkit rate %s",
            table.name, path, _typed(plan, table),
        )  # fmt: skip
        return
    found = {
        name: {question: rated(own, question, config.resamples) for question in QUESTIONS}
        for name, own in rows.items()
    }
    print(_shown(table.name, rows, found))
    with whole_file(folder / f"{table.name}.csv") as temporary, temporary.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for name, own in rows.items():
            values = [value for question in QUESTIONS for value in _values(found[name][question])]
            writer.writerow([name, len(_pictures(own)), len(own), *values])


def _own(plan: Plan, table: Table, row: Row, answers: Sequence[Rating]) -> list[Rating]:
    """The answers about a row's pictures, in all styles that it holds for."""
    names = {
        name
        for style in plan.protocol.styles
        if row.holds_for(style)
        for name in layouts_of(plan, table, row, style)
    }
    return [one for one in answers if one.method == row.source and one.layout in names]


def _pictures(ratings: Sequence[Rating]) -> set[tuple[str, int]]:
    return {(one.layout, one.seed) for one in ratings}


def _typed(plan: Plan, table: Table) -> str:
    """A command that shows what of it is composed here for all styles."""
    rows = [row for row in table.rows if row.method and not row.styles and not row.conditions]
    methods = ",".join(dict.fromkeys(row.source for row in rows))
    folder = plan.parts[0].config.output_dir
    return f"methods={methods}" + ("" if folder == Path("outputs") else f" output_dir={folder}")


def _shown(
    title: str,
    rows: Mapping[str, Sequence[Rating]],
    found: Mapping[str, Mapping[Question, Interval | None]],
) -> str:
    heads = [*_HEADS.values(), "pictures", "answers"]
    lines = [f"{title + ', people (1 to 5)':34}" + "".join(f"{head:>16}" for head in heads)]
    for name, own in rows.items():
        means = [found[name][question] for question in _HEADS]
        cells = ["-" if mean is None else f"{mean.mean:.2f}" for mean in means]
        cells += [str(len(_pictures(own))), str(len(own))]
        lines.append(f"  {name:32}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _values(interval: Interval | None) -> tuple[str, str, str]:
    if interval is None:
        return ("", "", "")
    return (f"{interval.mean:.4f}", f"{interval.low:.4f}", f"{interval.high:.4f}")
