"""`toolkit evaluate protocol=NAME`: all runs of a protocol, and the tables that come of them."""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.batch.journal import Item
from toolkit.config.protocol import Row, Table
from toolkit.evaluation.cost import Cost, write_costs
from toolkit.evaluation.paper_table import Cell, cell_of, shown
from toolkit.evaluation.plan import Plan, check_plan, layouts_of, make_plan
from toolkit.evaluation.rated_table import write_rated
from toolkit.evaluation.run import set_aside, write_figures
from toolkit.evaluation.scoring import Scored, score
from toolkit.evaluation.table import ScoreRow, write_rows
from toolkit.files import whole_file
from toolkit.layout.layout import Layout

log = logging.getLogger(__name__)


def evaluate_protocol(typed: Mapping[str, str], folder: Path) -> int:
    """Compose and score what the protocol asks for; 0, or 1 when some pictures failed.

    folder: its tables, scores, costs and sheets are left there. Raises InputError, with nothing
    composed, for what is missing or wrong.
    """
    plan = make_plan(typed, folder / "layouts")
    log.info("protocol=%s: %s", plan.protocol.name, check_plan(plan))
    for name, row in plan.protocol.pictures.items():
        if f"pictures.{name}" not in typed:
            log.info(
                "row %s stays empty: its pictures are given with pictures.%s=FOLDER", row, name
            )
    scored: dict[str, list[Scored]] = {style.name: [] for style in plan.protocol.styles}
    for number, part in enumerate(plan.parts, 1):
        log.info("part %d of %d: %s", number, len(plan.parts), part.style.name)
        scored[part.style.name].append(score(part.config))
    for place in (folder, *(folder / style for style in scored)):
        set_aside(place)
    every = [one for own in scored.values() for one in own]
    write_rows([row for one in every for row in one.rows], folder / "scores.csv")
    write_costs(_costs(scored), folder / "costs.csv")
    resamples = plan.parts[0].config.resamples
    for style, own in scored.items():
        if not own:
            continue
        write_figures(_together(own), resamples, folder / style)
    for table in plan.protocol.tables:
        if table.ratings:
            write_rated(plan, table, folder)
            continue
        rows = {row.name: _cells(plan, table, row, scored) for row in table.rows}
        styles = [style.name for style in plan.protocol.styles]
        print(shown(f"{table.name}, judge {plan.protocol.first_judge}", rows, styles))
        _write(rows, folder / f"{table.name}.csv")
    return max(one.code for one in every)


def _cells(
    plan: Plan, table: Table, row: Row, scored: Mapping[str, Sequence[Scored]]
) -> dict[str, Cell]:
    """A row's values by style; none where it has no pictures."""
    found = {}
    for style in plan.protocol.styles:
        layouts = layouts_of(plan, table, row, style)
        rows = [
            score
            for one in scored[style.name]
            for score in one.rows
            if (score.method, score.judge) == (row.source, plan.protocol.first_judge)
            and score.layout in layouts
        ]
        if row.holds_for(style) and rows:
            found[style.name] = cell_of(rows, layouts)
    return found


def _together(scored: Sequence[Scored]) -> Scored:
    """The runs of a style as one; a layout that several runs have stands once."""
    layouts: dict[str, Layout] = {}
    rows: list[ScoreRow] = []
    pictures: dict[tuple[str, Item], Path] = {}
    for one in scored:
        layouts |= {layout.name: layout for layout in one.layouts}
        rows += one.rows
        pictures |= dict(one.pictures)
    return Scored([*layouts.values()], pictures, rows, (), 0)


def _costs(scored: Mapping[str, Sequence[Scored]]) -> list[Cost]:
    """Each run's costs, named by its style: canvases differ, and with them what a picture costs."""
    return [
        replace(cost, method=f"{style}: {cost.method}")
        for style, own in scored.items()
        for one in own
        for cost in one.costs
    ]


def _write(rows: Mapping[str, Mapping[str, Cell]], path: Path) -> None:
    """The table with intervals: a line for each row and style."""
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "style", *Cell.COLUMNS])
        for name, cells in rows.items():
            for style, cell in cells.items():
                writer.writerow([name, style, *cell.values()])
