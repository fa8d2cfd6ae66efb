"""Compose what is missing, and score every picture by every judge."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from toolkit.backbones import Base, load_base
from toolkit.batch.asked import composition_folder
from toolkit.batch.journal import Item, error_of
from toolkit.batch.run import compose
from toolkit.concept import Concept, load_concept
from toolkit.config.schema import EvaluateConfig
from toolkit.config.trainer_values import Work
from toolkit.errors import RunError
from toolkit.evaluation.asked import check_asked
from toolkit.evaluation.calibration import Calibration, Portraits, calibrate, embed_references
from toolkit.evaluation.clean_rows import CLEAN, clean_rows
from toolkit.evaluation.cost import Cost, measure, recorded_cost
from toolkit.evaluation.judges import Judge, default_judges, load_judge
from toolkit.evaluation.other_pictures import pictures_of
from toolkit.evaluation.picture import score_pictures
from toolkit.evaluation.references import as_drawn, read_references
from toolkit.evaluation.table import ScoreRow
from toolkit.layout.layout import Layout
from toolkit.trainer import check_trainer

log = logging.getLogger(__name__)

Pictures = Mapping[tuple[str, Item], Path]
"""By method and item."""


@dataclass(frozen=True)
class Scored:
    """What came of one evaluation. code: 0, or 1 when some pictures failed."""

    layouts: Sequence[Layout]
    pictures: Pictures
    rows: Sequence[ScoreRow]
    costs: Sequence[Cost]
    code: int


def score(config: EvaluateConfig) -> Scored:
    """Compose what is missing, and score all there is.

    Raises InputError, before anything is composed, when a layout, a concept, its images or a judge
    is not there, and RunError when no picture could be composed.
    """
    trainer = check_trainer(config.one_device.arguments, Work.COMPOSE)
    asked = check_asked(config)
    layouts = asked.usable
    concepts = {name: load_concept(path) for name, path in asked.files.items()}
    references = read_references(asked.files)
    base = load_base(
        config.model.path,
        config.model.name,
        config.model.guidance_downscale,
        dtype=trainer.dtype_of_base(config.model.dtype),
    )
    _to(base, trainer.device)
    side = min(config.model.width, config.model.height)
    drawn = {
        name: [as_drawn(image, base, side) for image in images]
        for name, images in references.items()
    }
    judges = [
        load_judge(name, config.model.path, trainer.device)
        for name in config.judges or default_judges(config.model.path)
        if name != CLEAN
    ]
    _to(base, torch.device("cpu"))  # makes room for composing, which has its own
    code = 0
    for composition in config.compositions:
        log.info("composing: %s", composition.method_name)
        code = max(code, compose(composition))
    pictures = _pictures(config, layouts)
    if not pictures:
        raise RunError("no picture could be composed: there is nothing to score")
    rows: list[ScoreRow] = []
    for judge in judges:
        seen = embed_references(judge, references, drawn)
        calibration = calibrate(judge, drawn, seen) if judge.tells_presence else None
        if calibration is not None:
            log.info("%s", describe(calibration))
        rows += _rows(judge, pictures, concepts, seen, calibration, config.model.name)
    if CLEAN in config.judges:
        rows += clean_rows(config, layouts, pictures)
    _to(base, trainer.device)
    return Scored(layouts, pictures, rows, _costs(config, layouts, base), code)


def describe(calibration: Calibration) -> str:
    """One line: how often the judge is wrong on crops whose answer is known."""
    return (
        f"judge {calibration.judge} on crops whose answer is known: real subjects called vanished "
        f"{calibration.missed:.1%}, wrong crops called there {calibration.filled:.1%}, real "
        f"subjects called confused {calibration.mistaken:.1%}, swapped ones overlooked "
        f"{calibration.overlooked:.1%}, placement {calibration.placed:.2f} in the right box and "
        f"{calibration.misplaced:.2f} in a wrong one"
    )


def _to(base: Base, device: torch.device) -> None:
    for network in base.networks.values():
        network.to(device)


def _pictures(config: EvaluateConfig, layouts: Sequence[Layout]) -> Pictures:
    """Every finished picture, and those that other programs made."""
    found = {}
    for composition in config.compositions:
        folder = composition_folder(composition)
        for layout in layouts:
            for seed in config.seeds:
                item = Item(layout, seed)
                if error_of(item, folder) is None:
                    found[composition.method_name, item] = item.path(folder, ".png")
    for pictures in config.pictures:
        for item, path in pictures_of(pictures, layouts, config.seeds).items():
            found[pictures.name, item] = path
    return found


def _costs(config: EvaluateConfig, layouts: Sequence[Layout], base: Base) -> list[Cost]:
    found = []
    for composition in config.compositions:
        cost = recorded_cost(composition, layouts)
        if config.cost:
            log.info("counting what a picture costs: %s", composition.method_name)
            cost = measure(config, cost, composition, base)
        found.append(cost)
    return found


def _rows(
    judge: Judge,
    pictures: Pictures,
    concepts: Mapping[str, Concept],
    seen: Mapping[str, Portraits],
    calibration: Calibration | None,
    model: str,
) -> list[ScoreRow]:
    shown = [(path, item.layout) for (_, item), path in pictures.items()]
    found = score_pictures(judge, shown, concepts, seen, calibration)
    watched = tqdm(found, desc=f"judge {judge.name}", unit="picture", total=len(shown))
    rows: list[ScoreRow] = []
    for (method, item), regions in zip(pictures, watched, strict=True):
        for scores in regions:
            scr_40, scr_50, scr_60 = scores.scr or (None, None, None)
            row = ScoreRow(
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
                collapsed=scores.collapsed,
                whole_similarity=scores.whole_similarity,
                scr_40=scr_40,
                scr_50=scr_50,
                scr_60=scr_60,
            )
            rows.append(row)
    return rows
