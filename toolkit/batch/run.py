"""`toolkit compose` and `toolkit sample`: from a checked config to files."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from toolkit.backbones import Base, load_base
from toolkit.backbones.memory import pictures_that_fit
from toolkit.backbones.waiting import WAIT_WHILE_COMPOSING
from toolkit.batch.asked import (
    Asked,
    asked_to_compose,
    asked_to_sample,
    composition_folder,
    sample_folder,
)
from toolkit.batch.concepts import read_concept
from toolkit.batch.data import Items
from toolkit.batch.failures import tell_rejected
from toolkit.batch.further import composer_for, list_firsts, second_for
from toolkit.batch.fusions import make_fusions
from toolkit.batch.journal import Item, is_done, make_room, recipe_of
from toolkit.batch.processes import several_processes, wait_for_the_others
from toolkit.batch.progress import BatchProgress
from toolkit.batch.report import end_of_composing, interrupted, report, tell_all_there, tell_plan
from toolkit.batch.signals import HeedSigterm, ended_by_sigterm
from toolkit.batch.wandb_table import CompositionTable
from toolkit.batch.writer import CompositionWriter
from toolkit.concept import Concept
from toolkit.concept.cache import ConceptCache
from toolkit.config.schema import (
    ComposeConfig,
    LoggerConfig,
    ModelConfig,
    SampleConfig,
    SamplingConfig,
)
from toolkit.config.trainer_values import Work
from toolkit.errors import RunError, one_line
from toolkit.layout.files import Rejected
from toolkit.layout.layout import Layout
from toolkit.methods import Method
from toolkit.methods.checks import check
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.processes import is_first_process
from toolkit.second.plan import SecondPasses
from toolkit.second.resizing import load_network
from toolkit.tracking.wandb_settings import check_wandb
from toolkit.trainer import CheckedTrainer, check_trainer, told_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """How pictures are made, and where they go."""

    folder: Path
    model: ModelConfig
    method: Method
    sampling: SamplingConfig
    trainer: CheckedTrainer
    logger: LoggerConfig
    batch_size: int | None = 1
    overwrite: bool = False
    figures: bool = False
    keep_earlier: bool = True
    provenance: bool = True
    composing: ComposeConfig | None = None
    """Where layouts are composed, whose pictures may get second passes."""

    @property
    def plan(self) -> SecondPasses:
        """The second passes of the pictures."""
        return SecondPasses() if self.composing is None else self.composing.sampling


def compose(config: ComposeConfig) -> int:
    """Make every (layout, seed) that is not there yet; 0, or 1 when some failed.

    A wrong line of a layouts file does not stop the rest, unless `strict`: it is told in
    `failures.jsonl`. Raises InputError, with nothing started, when a layout or a concept file is
    wrong, or all lines are.
    """
    job = _Job(
        folder=composition_folder(config),
        model=config.model,
        method=config.method,
        sampling=config.sampling,
        trainer=check_trainer(config.trainer.arguments, Work.COMPOSE),
        logger=config.logger,
        batch_size=config.batch_size,
        overwrite=config.overwrite,
        figures=config.figures,
        keep_earlier=config.keep_earlier,
        provenance=config.provenance,
        composing=config,
    )
    _check_surroundings(job)
    asked = asked_to_compose(config)
    make_fusions(config, asked.usable)
    usable = _usable(job, asked)
    items = [Item(layout, seed) for layout in usable.layouts for seed in config.seeds]
    try:
        made = _make(job, usable, items)
    except KeyboardInterrupt:
        if is_first_process():
            list_firsts(config)
            interrupted(items, job.folder, config.method_name, usable.rejected)
        raise
    if made is None:
        return 0  # another process reports
    list_firsts(config)
    return end_of_composing(made, items, job.folder, config.method_name, usable.rejected)


def sample(config: SampleConfig) -> int:
    """Pictures of one concept alone: a canvas that the concept shapes as its background."""
    job = _Job(
        folder=sample_folder(config),
        model=config.model,
        method=PUBLISHED,
        sampling=config.sampling,
        trainer=check_trainer(config.trainer.arguments, Work.COMPOSE),
        logger=LoggerConfig(kind="none"),
    )
    _check_surroundings(job)
    usable = _usable(job, asked_to_sample(config))
    items = [Item(layout, seed) for layout in usable.layouts for seed in config.seeds]
    made = _make(job, usable, items)
    return 1 if made is not None and report(made, items, job.folder) else 0


def _check_surroundings(job: _Job) -> None:
    """Raise InputError for what can be wrong before a layout is read."""
    for remark in job.trainer.remarks:
        log.warning("%s", remark)
    if job.logger.kind == "wandb":
        check_wandb()


@dataclass(frozen=True)
class _Usable:
    """Layouts that can be made, on this base with these concepts, and the lines that cannot."""

    layouts: Sequence[Layout]
    rejected: Sequence[Rejected]
    base: Base
    concepts: Mapping[str, Concept]
    files: Mapping[str, Path]
    exemplars: Mapping[str, Path]


def _usable(job: _Job, asked: Asked) -> _Usable:
    """Check every layout on the loaded base; wrong ones of a layouts file are left out.

    Raises InputError for one that must be right, or when nothing is left.
    """
    base = load_base(
        job.model.path,
        job.model.name,
        guidance_downscale=job.model.guidance_downscale,
        guidance_layers=job.model.guidance_layers,
        prediction_type=job.model.prediction_type,
        dtype=job.trainer.dtype_of_base(job.model.dtype),
        compiled=job.model.compile,
        waiting=WAIT_WHILE_COMPOSING if job.model.offload else (),
    )
    concepts = ConceptCache(asked.files, partial(read_concept, base=base))
    remarks: dict[str, list[str]] = {}
    job.plan.check_base(base.vae is not None, base.name)
    if job.plan.upscaler is not None:
        load_network(job.plan.upscaler, base.device)  # what is none is told before anything is made

    def check_and_note(layout: Layout) -> None:
        job.plan.check_layout(layout, base.sizes, base.name)
        for remark in check(layout, base, concepts, job.method):
            remarks.setdefault(remark, []).append(layout.name)

    asked.check_each(check_and_note)
    for remark, names in remarks.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        log.warning("%s%s", f"layout {names[0]}{more}: " if asked.named else "", remark)
    tell_rejected(asked.rejected)
    return _Usable(asked.usable, asked.rejected, base, concepts, asked.files, asked.exemplars)


def _make(job: _Job, usable: _Usable, items: Sequence[Item]) -> list[Item] | None:
    """Make what is missing; those items, or None in a process that is not the one to report.

    What stood in their place is taken away first, so that nothing old passes as made.
    """
    base = usable.base
    sampling = job.sampling
    recipe = recipe_of(
        base.identity,
        usable.layouts,
        usable.files,
        job.method,
        sampling.steps,
        sampling.guidance_scale,
        usable.exemplars,
        job.plan.record(job.model.size),
    )
    missing = [item for item in items if job.overwrite or not is_done(item, recipe, job.folder)]
    if not missing:
        tell_all_there(items)
        return []
    writer = CompositionWriter(job.folder, recipe, job.figures, job.provenance)
    second = None if job.composing is None else second_for(job.composing, writer)
    module = composer_for(base, usable.concepts, job.method, sampling, usable.exemplars, second)
    progress = BatchProgress(missing, job.folder)
    callbacks = [writer, progress, HeedSigterm()]
    if job.logger.kind == "wandb":
        callbacks.append(CompositionTable(job.logger.project, job.logger.max_images, job.folder))
    together = job.trainer.processes > 1
    trainer = job.trainer.make(
        callbacks=callbacks,
        default_root_dir=job.folder,
        **({"strategy": several_processes()} if together else {}),
    )
    how = f"{told_of(trainer, job.trainer.precision)}, {_at_once(job, trainer)}"
    what = f"{job.method.name}{job.plan.in_name} on {base.name}"
    tell_plan(items, missing, what, sampling.steps, how)
    try:
        make_room(missing, job.folder, job.keep_earlier)
        if second is not None:
            second.make_room(missing, job.overwrite, job.keep_earlier)
        given = job.batch_size
        fits = partial(pictures_that_fit, base) if given is None else lambda w, h: given
        data = Items(missing, fits)
        with ended_by_sigterm(trainer):
            trainer.predict(module, datamodule=data, return_predictions=False)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    except OSError as error:
        raise RunError(f"cannot write to {job.folder}: {error}") from error
    except MisconfigurationException as error:
        raise RunError(f"Lightning cannot compose so: {one_line(error)}") from error
    if together and not wait_for_the_others():
        log.warning("another process ended early; run the same command again for what it had")
    progress.end()
    return missing if trainer.is_global_zero else None


def _at_once(job: _Job, trainer: Trainer) -> str:
    """How many pictures a process makes together."""
    if job.batch_size is not None:
        return f"{job.batch_size} at once"
    on_cpu = trainer.strategy.root_device.type == "cpu"
    return "1 at once" if on_cpu else "as many at once as its memory holds"
