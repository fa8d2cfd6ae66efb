"""`toolkit evaluate`: compose what is missing, score it, and show what came of it."""

import logging
from collections.abc import Sequence
from pathlib import Path

import wandb

from toolkit.config.schema import EvaluateConfig
from toolkit.evaluation.cost import write_costs
from toolkit.evaluation.figures import contact_sheet, score_figure
from toolkit.evaluation.scoring import Scored, score
from toolkit.evaluation.table import ScoreRow, table, write_rows
from toolkit.files import whole_file
from toolkit.tracking.figures import save_figure
from toolkit.tracking.wandb import start_run, tell_where
from toolkit.tracking.wandb_settings import check_wandb

log = logging.getLogger(__name__)

_LEFT = ("scores.*", "costs.csv", "table*.csv", "contact_*.png")
"""What an evaluation leaves."""


def evaluate(config: EvaluateConfig) -> int:
    """Compare methods on the same layouts and seeds; 0, or 1 when some pictures failed.

    Raises InputError and RunError as `score` does.
    """
    if config.logger.kind == "wandb":
        check_wandb()
    scored = score(config)
    folder = config.output_dir / "evaluation"
    set_aside(folder)
    write_rows(scored.rows, folder / "scores.csv")
    write_costs(scored.costs, folder / "costs.csv")
    print(table(scored.rows, config.resamples, scored.costs))
    write_figures(scored, config.resamples, folder)
    if config.logger.kind == "wandb":
        _log_to_wandb(config, scored.rows, folder)
    return scored.code


def write_figures(scored: Scored, resamples: int, folder: Path) -> None:
    """A chart of the scores, and a sheet of each layout's pictures."""
    save_figure(score_figure(scored.rows, resamples), folder / "scores.png")
    for layout in scored.layouts:
        of_layout = {
            (method, item.seed): path
            for (method, item), path in scored.pictures.items()
            if item.layout == layout
        }
        if of_layout:
            with whole_file(folder / f"contact_{layout.name}.png") as temporary:
                contact_sheet(of_layout).save(temporary)


def set_aside(folder: Path) -> None:
    """Move what the last evaluation left to `earlier/N`, so that no sheet is older than its scores.

    N counts from 1.
    """
    files = [path for name in _LEFT for path in folder.glob(name)]
    if not files:
        return
    earlier = folder / "earlier"
    before = [int(path.name) for path in earlier.glob("*") if path.name.isdecimal()]
    place = earlier / str(max(before, default=0) + 1)
    place.mkdir(parents=True)
    for path in files:
        path.replace(place / path.name)
    log.info("the last evaluation is kept in %s", place)


def _log_to_wandb(config: EvaluateConfig, rows: Sequence[ScoreRow], folder: Path) -> None:
    columns = list(ScoreRow.__dataclass_fields__)
    with start_run(config.logger.project, folder, "evaluate") as run:
        sheets = sorted(folder.glob("contact_*.png"))[: config.logger.max_images]
        run.log(
            {
                "scores": wandb.Table(
                    columns=columns,
                    data=[[getattr(row, column) for column in columns] for row in rows],
                ),
                "chart": wandb.Image(str(folder / "scores.png")),
                "pictures": [wandb.Image(str(path), caption=path.stem) for path in sheets],
            }
        )
    tell_where(run)
