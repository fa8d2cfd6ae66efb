"""`toolkit evaluate`: compose what is missing, score it, and show what came of it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import wandb
from tqdm import tqdm

from toolkit.backbones import load_base
from toolkit.batch.journal import Item, error_of
from toolkit.batch.run import compose
from toolkit.concept import Concept, load_concept
from toolkit.config.schema import EvaluateConfig
from toolkit.config.trainer_values import Work
from toolkit.errors import RunError
from toolkit.evaluation.asked import check_asked
from toolkit.evaluation.calibration import Calibration, Portraits, calibrate, embed_references
from toolkit.evaluation.clean_rows import CLEAN, clean_rows
from toolkit.evaluation.figures import contact_sheet, score_figure
from toolkit.evaluation.judges import Judge, default_judges, load_judge
from toolkit.evaluation.other_pictures import pictures_of
from toolkit.evaluation.picture import score_picture
from toolkit.evaluation.references import as_drawn, read_references
from toolkit.evaluation.table import ScoreRow, table, write_rows
from toolkit.files import whole_file
from toolkit.layout.layout import Layout
from toolkit.tracking.figures import save_figure
from toolkit.tracking.wandb import start_run
from toolkit.tracking.wandb_settings import check_wandb
from toolkit.trainer import check_trainer

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> int:
    """Compare methods on the same layouts and seeds; 0, or 1 when some pictures failed.

    Raises InputError, before anything is composed, when a layout, a concept, its images or a judge
    is not there.
    """
    check_trainer(config.trainer.arguments, Work.COMPOSE)
    if config.logger.kind == "wandb":
        check_wandb()
    asked = check_asked(config)
    layouts = asked.usable
    concepts = {name: load_concept(path) for name, path in asked.files.items()}
    references = read_references(list(asked.files))
    base = load_base(config.model.path, config.model.name, config.model.guidance_downscale)
    side = min(config.model.width, config.model.height)
    drawn = {
        name: [as_drawn(image, base, side) for image in images]
        for name, images in references.items()
    }
    judges = [
        load_judge(name, config.model.path)
        for name in config.judges or default_judges(config.model.path)
        if name != CLEAN
    ]
    code = 0
    for composition in config.compositions:
        log.info("composing: %s", composition.method_name)
        code = max(code, compose(composition))
    folder = config.output_dir / "evaluation"
    pictures = _pictures(config, layouts)
    if not pictures:
        raise RunError("no picture could be composed: there is nothing to score")
    rows: list[ScoreRow] = []
    for judge in judges:
        seen = embed_references(judge, references, drawn)
        calibration = calibrate(judge, drawn, seen) if judge.tells_presence else None
        if calibration is not None:
            log.info("%s", describe(calibration))
        rows += _score(judge, pictures, concepts, seen, calibration, config.model.name)
    if CLEAN in config.judges:
        rows += clean_rows(config, layouts, pictures)
    set_aside(folder)
    write_rows(rows, folder / "scores.csv")
    print(table(rows, config.resamples))
    save_figure(score_figure(rows, config.resamples), folder / "scores.png")
    for layout in layouts:
        of_layout = {
            (method, item.seed): path
            for (method, item), path in pictures.items()
            if item.layout == layout
        }
        if of_layout:
            with whole_file(folder / f"contact_{layout.name}.png") as temporary:
                contact_sheet(of_layout).save(temporary)
    if config.logger.kind == "wandb":
        _log_to_wandb(config, rows, folder)
    return code


def set_aside(folder: Path) -> None:
    """Move what the last evaluation left to `earlier/N`, so that no sheet is older than its scores.

    N counts from 1.
    """
    files = [*folder.glob("scores.*"), *folder.glob("contact_*.png")]
    if not files:
        return
    earlier = folder / "earlier"
    before = [int(path.name) for path in earlier.glob("*") if path.name.isdecimal()]
    place = earlier / str(max(before, default=0) + 1)
    place.mkdir(parents=True)
    for path in files:
        path.replace(place / path.name)
    log.info("the last evaluation is kept in %s", place)


def describe(calibration: Calibration) -> str:
    """One line: how often the judge is wrong on crops whose answer is known."""
    return (
        f"judge {calibration.judge} on crops whose answer is known: real subjects called vanished "
        f"{calibration.missed:.1%}, wrong crops called there {calibration.filled:.1%}, real "
        f"subjects called confused {calibration.mistaken:.1%}, swapped ones overlooked "
        f"{calibration.overlooked:.1%}, placement {calibration.placed:.2f} in the right box and "
        f"{calibration.misplaced:.2f} in a wrong one"
    )


def _pictures(config: EvaluateConfig, layouts: Sequence[Layout]) -> dict[tuple[str, Item], Path]:
    """Every finished picture by method and item, and those that other programs made."""
    found = {}
    for composition in config.compositions:
        folder = config.output_dir / "compose" / composition.method_name
        for layout in layouts:
            for seed in config.seeds:
                item = Item(layout, seed)
                if error_of(item, folder) is None:
                    found[composition.method_name, item] = item.path(folder, ".png")
    for pictures in config.pictures:
        for item, path in pictures_of(pictures, layouts, config.seeds).items():
            found[pictures.name, item] = path
    return found


def _score(
    judge: Judge,
    pictures: Mapping[tuple[str, Item], Path],
    concepts: Mapping[str, Concept],
    seen: Mapping[str, Portraits],
    calibration: Calibration | None,
    model: str,
) -> list[ScoreRow]:
    rows: list[ScoreRow] = []
    for (method, item), path in tqdm(pictures.items(), desc=f"judge {judge.name}", unit="picture"):
        rows += [
            ScoreRow(
                method=method,
                model=model,
                layout=item.layout.name,
                seed=item.seed,
                judge=judge.name,
                concept=scores.concept,
                regions=len(item.layout.regions),
                image_similarity=scores.image_similarity,
                text_similarity=scores.text_similarity,
                vanished=scores.vanished,
                confused=scores.confused,
                placement=scores.placement,
            )
            for scores in score_picture(judge, path, item.layout, concepts, seen, calibration)
        ]
    return rows


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
