"""`toolkit compose` and `toolkit sample`: from a checked config to files."""

import json
import logging
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Trainer

from toolkit.base import Base, load_base
from toolkit.composition.cells import cells_of
from toolkit.composition.conditioning import check_layout
from toolkit.composition.data import Items, make_batches
from toolkit.composition.journal import Item, is_done, recipe_of, write_manifest
from toolkit.composition.layout import Layout, layout_from_mapping
from toolkit.composition.method import Method
from toolkit.composition.module import Composer
from toolkit.composition.progress import BatchProgress
from toolkit.composition.writer import CompositionWriter
from toolkit.concept import Concept, load_concept
from toolkit.config.schema import (
    ComposeConfig,
    LoggerConfig,
    ModelConfig,
    SampleConfig,
    SamplingConfig,
    TrainerConfig,
)
from toolkit.errors import InputError, RunError
from toolkit.tracking.wandb import CompositionTable

log = logging.getLogger(__name__)


def compose(config: ComposeConfig) -> int:
    """Make every (layout, seed) that is not there yet; 0, or 1 when some failed.

    Raises InputError before any model loads when a layout or a concept file is wrong.
    """
    if config.trainer.arguments.get("inference_mode"):
        raise InputError("trainer.inference_mode=true: composing needs gradients of the latents")
    layouts = read_layouts(config.layouts, config.layouts_file)
    folder = config.output_dir / "compose" / config.method_name
    failed = _make(
        [Item(layout, seed) for layout in layouts for seed in config.seeds],
        folder,
        config.model,
        config.method,
        config.sampling,
        config.trainer,
        config.logger,
        concepts_dir=config.output_dir / "concepts" / config.model.name,
        batch_size=config.batch_size or 1,
        overwrite=config.overwrite,
        figures=config.figures,
    )
    log.info("manifest: %s", write_manifest(folder, config.method_name))
    return 1 if failed else 0


def sample(config: SampleConfig) -> int:
    """Pictures of one concept alone: a canvas that the concept shapes as its background."""
    layout = Layout(
        name=re.sub(r"[^A-Za-z0-9_-]+", "-", config.prompt).strip("-")[:60] or "sample",
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        width=config.width,
        height=config.height,
        background=config.concept,
    )
    failed = _make(
        [Item(layout, seed) for seed in config.seeds],
        config.output_dir / "sample" / config.model.name / config.concept,
        config.model,
        Method(),
        config.sampling,
        config.trainer,
        LoggerConfig(kind="none"),
        concepts_dir=config.output_dir / "concepts" / config.model.name,
        batch_size=1,
        overwrite=False,
        figures=False,
    )
    return 1 if failed else 0


def _make(
    items: Sequence[Item],
    folder: Path,
    model: ModelConfig,
    method: Method,
    sampling: SamplingConfig,
    trainer_config: TrainerConfig,
    logger: LoggerConfig,
    concepts_dir: Path,
    batch_size: int,
    overwrite: bool,
    figures: bool,
) -> int:
    """Make what is missing under `folder`; returns how many pictures failed."""
    paths = concept_files([item.layout for item in items], concepts_dir, model)
    concepts = {name: load_concept(path) for name, path in paths.items()}
    base = load_base(
        model.path,
        model.name,
        guidance_downscale=model.guidance_downscale or 4,
        dtype=_dtype(model, trainer_config),
    )
    if model.compile:
        base.unet.compile()
    for layout in dict.fromkeys(item.layout for item in items):
        _check(layout, base, concepts)
    recipe = recipe_of(base, paths, method, sampling.steps, sampling.guidance_scale)
    missing = [item for item in items if overwrite or not is_done(item, recipe, folder)]
    if len(missing) < len(items):
        log.info("%d of %d pictures are there already", len(items) - len(missing), len(items))
    if not missing:
        return 0
    module = Composer(base, concepts, method, sampling.steps, sampling.guidance_scale)
    writer = CompositionWriter(folder, recipe, figures)
    callbacks = [writer, BatchProgress(len(missing))]
    if logger.kind == "wandb":
        callbacks.append(CompositionTable(logger.project, logger.max_images, folder))
    arguments: dict[str, Any] = {"enable_model_summary": False, **trainer_config.arguments}
    arguments |= {"inference_mode": False, "use_distributed_sampler": False, "logger": False}
    trainer = Trainer(
        **arguments,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    try:
        trainer.predict(
            module, datamodule=Items(make_batches(missing, batch_size)), return_predictions=False
        )
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error}") from error
    for item in missing:
        log.info("%s", item.path(folder, ".png"))
    return writer.failed


def concept_files(layouts: Sequence[Layout], folder: Path, model: ModelConfig) -> dict[str, Path]:
    """The concept file of every concept in `layouts`.

    Raises InputError naming the command that trains what is missing.
    """
    names = dict.fromkeys(name for layout in layouts for name in layout.concepts)
    paths = {name: folder / f"{name}.safetensors" for name in names}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        command = f"toolkit train concept={','.join(missing)}"
        if model.name != "mini":
            command += f" model={model.name}"
        raise InputError(f"not trained yet: {', '.join(missing)}; run: {command}")
    return paths


def read_layouts(files: Sequence[Path], lines: Path | None) -> list[Layout]:
    """Every layout of some YAML files and of a JSONL file; the names must differ."""
    layouts = []
    for path in files:
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: is no layout")
        layouts.append(layout_from_mapping(content, str(path)))
    if lines is not None:
        layouts += _read_lines(lines)
    seen: set[str] = set()
    for layout in layouts:
        if layout.name in seen:
            raise InputError(f"two layouts are named {layout.name}: names must differ")
        seen.add(layout.name)
    return layouts


def _read_lines(path: Path) -> list[Layout]:
    layouts = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}, line {number}: is no layout")
        layouts.append(layout_from_mapping(content, f"{path}, line {number}"))
    if not layouts:
        raise InputError(f"{path}: holds no layout")
    return layouts


def _check(layout: Layout, base: Base, concepts: dict[str, Concept]) -> None:
    """Raise InputError for a layout this base cannot make; warn of boxes closer than a cell."""
    check_layout(layout, base)
    for name in layout.concepts:
        concepts[name].check_fits(base)
    rows, columns = base.guidance_cells(layout.width, layout.height)
    for first, second in combinations(layout.regions, 2):
        a, b = cells_of(first.box, rows, columns), cells_of(second.box, rows, columns)
        assert a is not None and b is not None
        apart_x = max(a.left, b.left) - min(a.right, b.right)
        apart_y = max(a.top, b.top) - min(a.bottom, b.bottom)
        if max(apart_x, apart_y) < 1:
            log.warning(
                "layout %s: the boxes of %s and %s are less than a cell apart; they may blend",
                layout.name,
                first.concept,
                second.concept,
            )


def _dtype(model: ModelConfig, trainer: TrainerConfig) -> torch.dtype:
    if model.dtype is not None:
        dtype: torch.dtype = getattr(torch, model.dtype)
        return dtype
    precision = str(trainer.arguments.get("precision") or "32")
    return {"16": torch.float16, "bf16": torch.bfloat16}.get(precision.split("-")[0], torch.float32)
