"""`judge=clean`: make the pictures it holds others against, and score with it."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from toolkit.batch.journal import Item, error_of
from toolkit.batch.run import compose
from toolkit.config.schema import ComposeConfig, EvaluateConfig
from toolkit.evaluation.cleanliness import CleanJudge, Prompt, fit_judge
from toolkit.evaluation.table import ScoreRow
from toolkit.files import whole_file
from toolkit.layout.layout import Layout, Region
from toolkit.layout.mapping import layout_to_mapping
from toolkit.methods.empty_scene import EmptyScene
from toolkit.methods.lora_composer import LoraComposer
from toolkit.methods.prompt_only import PromptOnly

log = logging.getLogger(__name__)

CLEAN = "clean"

_EMPTY = EmptyScene()
_SINGLE = (
    LoraComposer(name="single"),
    PromptOnly(name="single_plain"),
)
"""A region's prompt by itself: as its concept draws it, and the base with the class word."""

_SEEDS = (0, 1, 2, 3)


def clean_rows(
    config: EvaluateConfig, layouts: Sequence[Layout], pictures: Mapping[tuple[str, Item], Path]
) -> list[ScoreRow]:
    """A row for each region of each picture; what is missing to compare with is made first."""
    judge = _judge(config, layouts)
    (empty,) = replace(config, methods=(_EMPTY,)).compositions
    compose(empty)
    rows = []
    for (method, item), path in pictures.items():
        scene = _picture(empty, item)
        found = judge.scores(Image.open(path).convert("RGB"), item.layout, scene)
        rows += [
            ScoreRow(
                method=method,
                model=config.model.name,
                layout=item.layout.name,
                seed=item.seed,
                concept=scores.concept,
                judge=CLEAN,
                regions=len(item.layout.regions),
                strangeness=scores.strangeness,
                spoilt=scores.spoilt,
                outside=scores.outside,
            )
            for scores in found
        ]
    return rows


def _judge(config: EvaluateConfig, layouts: Sequence[Layout]) -> CleanJudge:
    regions = {(r.concept, r.prompt): r for layout in layouts for r in layout.regions}
    alone = {key: _alone(region, config) for key, region in regions.items()}
    file = config.output_dir / "evaluation" / "single.jsonl"
    with whole_file(file) as temporary:
        lines = (json.dumps(layout_to_mapping(layout)) for layout in alone.values())
        temporary.write_text("\n".join(lines) + "\n")
    groups: dict[Prompt, list[list[Image.Image]]] = {key: [] for key in alone}
    own = replace(config, methods=_SINGLE, layouts=(), layouts_file=file, seeds=_SEEDS)
    for composition in own.compositions:
        log.info("composing: %s", composition.method_name)
        compose(composition)
        for key, layout in alone.items():
            made = [_picture(composition, Item(layout, seed)) for seed in _SEEDS]
            group = [picture for picture in made if picture is not None]
            if len(group) > 1:
                groups[key].append(group)
    return fit_judge(groups)


def _alone(region: Region, config: EvaluateConfig) -> Layout:
    """A region's prompt on a canvas of its own."""
    digest = hashlib.sha256(f"{region.concept}\n{region.prompt}".encode()).hexdigest()[:12]
    return Layout(
        name=f"single-{digest}",
        prompt=region.prompt,
        width=config.model.width,
        height=config.model.height,
        background=region.concept,
    )


def _picture(composition: ComposeConfig, item: Item) -> Image.Image | None:
    folder = composition.output_dir / "compose" / composition.method_name
    if error_of(item, folder) is not None:
        return None
    return Image.open(item.path(folder, ".png")).convert("RGB")
