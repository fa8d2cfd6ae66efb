"""`toolkit compose` and `toolkit sample`: from a checked config to files."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from toolkit.base import Base, load_base
from toolkit.base.source import find_source
from toolkit.composition.batch_size import pictures_that_fit
from toolkit.composition.checks import check
from toolkit.composition.data import Items
from toolkit.composition.failures import write_failures
from toolkit.composition.journal import Item, error_of, is_done, recipe_of, write_manifest
from toolkit.composition.layout import Layout, is_file, name_of
from toolkit.composition.layout_files import Lines, Rejected, read_layouts, read_lines
from toolkit.composition.method import Method
from toolkit.composition.module import Composer
from toolkit.composition.processes import IndependentProcesses
from toolkit.composition.progress import BatchProgress
from toolkit.composition.signals import ended_by_sigterm
from toolkit.composition.writer import CompositionWriter
from toolkit.concept import Concept
from toolkit.concept.file import concept_path, load_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.shelf import Shelf
from toolkit.config.lookup import training_arguments
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


@dataclass(frozen=True)
class _Job:
    """How pictures are made, and where they go."""

    folder: Path
    output_dir: Path
    model: ModelConfig
    method: Method
    sampling: SamplingConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    batch_size: int | None = 1
    overwrite: bool = False
    figures: bool = False


def compose(config: ComposeConfig) -> int:
    """Make every (layout, seed) that is not there yet; 0, or 1 when some failed.

    A wrong line of a layouts file does not stop the rest, unless `strict`: it is told in
    `failures.jsonl`. Raises InputError, with nothing started, when a layout or a concept file is
    wrong, or all lines are.
    """
    if config.trainer.arguments.get("inference_mode"):
        raise InputError("trainer.inference_mode=true: composing needs gradients of the latents")
    job = _Job(
        folder=config.output_dir / "compose" / config.method_name,
        output_dir=config.output_dir,
        model=config.model,
        method=config.method,
        sampling=config.sampling,
        trainer=config.trainer,
        logger=config.logger,
        batch_size=config.batch_size,
        overwrite=config.overwrite,
        figures=config.figures,
    )
    layouts = read_layouts(config.layouts)
    lines = read_lines(config.layouts_file) if config.layouts_file else Lines({}, ())
    if config.strict:
        _refuse(lines.rejected)
        layouts += lines.layouts.values()
        lines = Lines({}, ())
    usable = _usable(job, layouts, lines)
    items = [Item(layout, seed) for layout in usable.layouts for seed in config.seeds]
    if not _make(job, usable, items):
        return 0  # another process reports
    failed = {item: error for item in items if (error := error_of(item, job.folder)) is not None}
    write_failures(job.folder, usable.rejected, failed)
    log.info("manifest: %s", write_manifest(job.folder, config.method_name))
    return 1 if failed or usable.rejected else 0


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
    job = _Job(
        folder=config.output_dir / "sample" / config.model.name / config.concept,
        output_dir=config.output_dir,
        model=config.model,
        method=Method(),
        sampling=config.sampling,
        trainer=config.trainer,
        logger=LoggerConfig(kind="none"),
    )
    items = [Item(layout, seed) for seed in config.seeds]
    _make(job, _usable(job, [layout], Lines({}, ())), items)
    return 1 if any(error_of(item, job.folder) is not None for item in items) else 0


@dataclass(frozen=True)
class _Usable:
    """Layouts that can be made, on this base with these concepts, and the lines that cannot."""

    layouts: Sequence[Layout]
    rejected: Sequence[Rejected]
    base: Base
    concepts: Mapping[str, Concept]
    files: Mapping[str, Path]


def _usable(job: _Job, layouts: Sequence[Layout], lines: Lines) -> _Usable:
    """Check every layout; wrong ones of `lines` are left out.

    Raises InputError for the first wrong one of `layouts`, or when nothing is left.
    """
    rejected = list(lines.rejected)
    numbered = dict(lines.layouts)

    def leave_out_wrong(check_one: Callable[[Layout], None]) -> None:
        for number, layout in list(numbered.items()):
            try:
                check_one(layout)
            except InputError as error:
                rejected.append(Rejected(number, layout.name, str(error)))
                del numbered[number]
        if not layouts and not numbered:
            _refuse(rejected)

    if Path(job.model.path).exists():  # what is no base is told before what is not trained on it
        find_source(job.model.path)
    files = concept_files(layouts, job.output_dir, job.model)
    leave_out_wrong(lambda own: files.update(concept_files([own], job.output_dir, job.model)))
    base = load_base(
        job.model.path,
        job.model.name,
        guidance_downscale=job.model.guidance_downscale,
        dtype=_dtype(job.model, job.trainer),
    )
    concepts = Shelf(files, partial(read_concept, base=base))
    for layout in layouts:
        check(layout, base, concepts)
    leave_out_wrong(lambda own: check(own, base, concepts))
    for wrong in sorted(rejected, key=lambda wrong: wrong.line):
        log.warning("line %d is left out: %s", wrong.line, wrong.error)
    usable = [*layouts, *numbered.values()]
    return _Usable(usable, rejected, base, concepts, files)


def _make(job: _Job, usable: _Usable, items: Sequence[Item]) -> bool:
    """Make what is missing; whether this process is the one that reports."""
    base = usable.base
    sampling = job.sampling
    recipe = recipe_of(
        base,
        usable.layouts,
        usable.files,
        job.method,
        sampling.steps,
        sampling.guidance_scale,
    )
    missing = [item for item in items if job.overwrite or not is_done(item, recipe, job.folder)]
    if len(missing) < len(items):
        log.info("%d of %d pictures are there already", len(items) - len(missing), len(items))
    if not missing:
        return True
    module = Composer(base, usable.concepts, job.method, sampling.steps, sampling.guidance_scale)
    writer = CompositionWriter(job.folder, recipe, job.figures)
    callbacks = [writer, BatchProgress(len(missing))]
    if job.logger.kind == "wandb":
        callbacks.append(CompositionTable(job.logger.project, job.logger.max_images, job.folder))
    arguments: dict[str, Any] = {"enable_model_summary": False, **job.trainer.arguments}
    arguments |= {"inference_mode": False, "use_distributed_sampler": False, "logger": False}
    if arguments.get("strategy") == "ddp":
        arguments["strategy"] = IndependentProcesses()
    trainer = Trainer(
        **arguments,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=job.folder,
    )
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        given = job.batch_size
        fits = partial(pictures_that_fit, base) if given is None else lambda w, h: given
        data = Items(missing, fits)
        with ended_by_sigterm():
            trainer.predict(module, datamodule=data, return_predictions=False)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    except OSError as error:
        raise RunError(f"cannot write to {job.folder}: {error}") from error
    try:
        trainer.strategy.barrier("everything is written")
    except RuntimeError:  # what torch.distributed raises when a peer is gone
        log.warning("another process ended early; run the same command again for what it had")
    if trainer.is_global_zero and len(missing) <= _LISTED:
        for item in missing:
            log.info("%s", item.path(job.folder, ".png"))
    return bool(trainer.is_global_zero)


_LISTED = 64  # more paths than this nobody reads


def concept_files(
    layouts: Sequence[Layout], output_dir: Path, model: ModelConfig
) -> dict[str, Path]:
    """The concept file of every concept in `layouts`.

    Raises InputError naming the command that trains what is missing, or a file that is not there.
    """
    names = dict.fromkeys(name for layout in layouts for name in layout.concepts)
    paths = {
        name: Path(name) if is_file(name) else concept_path(output_dir, model.name, name)
        for name in names
    }
    missing = [name for name, path in paths.items() if not path.is_file()]
    for name in filter(is_file, missing):
        raise InputError(f"no file {name}, which a layout names as its concept")
    if missing:
        typed = training_arguments(missing, model.name, model.path, output_dir)
        raise InputError(f"not trained yet: {', '.join(missing)}; run: toolkit train {typed}")
    return paths


def read_concept(concept: str, path: Path, base: Base) -> Concept:
    """What a layout calls `concept`: trained here, or a file of any format that is known."""
    if not is_file(concept):
        return load_concept(path)
    return read_foreign(path, name_of(concept), base)


def _refuse(rejected: Sequence[Rejected]) -> None:
    """Raise InputError for the first of wrong lines, if there is one."""
    if rejected:
        first = min(rejected, key=lambda wrong: wrong.line)
        more = f" (and {len(rejected) - 1} more wrong lines)" if len(rejected) > 1 else ""
        raise InputError(f"line {first.line} of the layouts file: {first.error}{more}")


def _dtype(model: ModelConfig, trainer: TrainerConfig) -> torch.dtype:
    if model.dtype is not None:
        dtype: torch.dtype = getattr(torch, model.dtype)
        return dtype
    precision = str(trainer.arguments.get("precision") or "32")
    return {"16": torch.float16, "bf16": torch.bfloat16}.get(precision.split("-")[0], torch.float32)
