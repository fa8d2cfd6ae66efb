"""`toolkit compose` and `toolkit sample`: from a checked config to files."""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from toolkit.backbones import Base, load_base
from toolkit.backbones.memory import pictures_that_fit
from toolkit.backbones.source import find_source
from toolkit.batch.concepts import concept_files, read_concept
from toolkit.batch.data import Items
from toolkit.batch.failures import tell_failures, write_failures
from toolkit.batch.journal import (
    MANIFEST,
    Item,
    clear,
    error_of,
    is_done,
    recipe_of,
    set_aside,
    write_manifest,
)
from toolkit.batch.module import Composer
from toolkit.batch.processes import several_processes, wait_for_the_others
from toolkit.batch.progress import BatchProgress
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
from toolkit.errors import InputError, RunError, one_line
from toolkit.files import check_writable
from toolkit.layout.files import Lines, Rejected, read_layouts, read_lines
from toolkit.layout.layout import Layout
from toolkit.methods import Method
from toolkit.methods.checks import check
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.tracking.wandb_settings import check_wandb
from toolkit.trainer import CheckedTrainer, Work, check_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """How pictures are made, and where they go."""

    folder: Path
    output_dir: Path
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


def compose(config: ComposeConfig) -> int:
    """Make every (layout, seed) that is not there yet; 0, or 1 when some failed.

    A wrong line of a layouts file does not stop the rest, unless `strict`: it is told in
    `failures.jsonl`. Raises InputError, with nothing started, when a layout or a concept file is
    wrong, or all lines are.
    """
    job = _Job(
        folder=config.output_dir / "compose" / config.method_name,
        output_dir=config.output_dir,
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
    )
    _check_surroundings(job)
    layouts = read_layouts(config.layouts)
    lines = read_lines(config.layouts_file) if config.layouts_file else Lines({}, ())
    if config.strict:
        _refuse(lines.rejected)
        layouts += lines.layouts.values()
        lines = Lines({}, ())
    usable = _usable(job, layouts, lines)
    items = [Item(layout, seed) for layout in usable.layouts for seed in config.seeds]
    made = _make(job, usable, items)
    if made is None:
        return 0  # another process reports
    failed = _report(made, items, job.folder)
    write_failures(job.folder, usable.rejected, failed)
    log.info("manifest: %s", write_manifest(job.folder, config.method_name))
    return 1 if failed or usable.rejected else 0


def sample(config: SampleConfig) -> int:
    """Pictures of one concept alone: a canvas that the concept shapes as its background."""
    layout = Layout(
        name=folder_of(config.prompt, config.concept),
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
        method=PUBLISHED,
        sampling=config.sampling,
        trainer=check_trainer(config.trainer.arguments, Work.COMPOSE),
        logger=LoggerConfig(kind="none"),
    )
    _check_surroundings(job)
    items = [Item(layout, seed) for seed in config.seeds]
    made = _make(job, _usable(job, [layout], Lines({}, ())), items)
    return 1 if made is not None and _report(made, items, job.folder) else 0


def folder_of(prompt: str, concept: str) -> str:
    """A folder's name for a prompt, no other prompt's.

    Where it is more than the concept and small plain letters, a hash tells it from prompts that
    differ in what is dropped, cut, or in another case (which some file systems do not tell apart).
    """
    kept = re.sub(r"[^\w-]+", "-", prompt).strip("-")
    if re.fullmatch(rf"<{re.escape(concept)}>( [a-z0-9_]+)*", prompt) and len(kept) <= 60:
        return kept
    cut = kept.encode()[:120].decode(errors="ignore")
    return f"{cut}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}".lstrip("-")


def _check_surroundings(job: _Job) -> None:
    """Raise InputError for what can be wrong before a layout is read or the base loads."""
    for remark in job.trainer.remarks:
        log.warning("%s", remark)
    if job.logger.kind == "wandb":
        check_wandb()
    check_writable(job.folder)


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
            except Exception as error:  # whatever it is, the other lines are not to suffer
                rejected.append(Rejected(number, layout.name, one_line(error)))
                del numbered[number]
        if not layouts and not numbered:
            _refuse(rejected)

    if Path(job.model.path).exists():  # what is no base is told before what is not trained on it
        find_source(job.model.path)

    def check_and_note(layout: Layout) -> None:
        for remark in check(layout, base, concepts):
            remarks.setdefault(remark, []).append(layout.name)

    remarks: dict[str, list[str]] = {}

    def find_files(own: Sequence[Layout]) -> dict[str, Path]:
        return concept_files(own, job.output_dir, job.model, job.method)

    files = find_files(layouts)
    leave_out_wrong(lambda own: files.update(find_files([own])))
    base = load_base(
        job.model.path,
        job.model.name,
        guidance_downscale=job.model.guidance_downscale,
        dtype=job.trainer.dtype_of_base(job.model.dtype),
        compiled=job.model.compile,
    )
    concepts = ConceptCache(files, partial(read_concept, base=base))
    for layout in layouts:
        check_and_note(layout)
    leave_out_wrong(check_and_note)
    for remark, names in remarks.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        log.warning("layout %s%s: %s", names[0], more, remark)
    wrong = sorted(rejected, key=lambda one: one.line)
    for one in wrong[:_LISTED]:
        log.warning("line %d is left out: %s", one.line, one.error)
    if len(wrong) > _LISTED:
        log.warning("and %d more lines: failures.jsonl will tell", len(wrong) - _LISTED)
    usable = [*layouts, *numbered.values()]
    return _Usable(usable, rejected, base, concepts, files)


def _make(job: _Job, usable: _Usable, items: Sequence[Item]) -> list[Item] | None:
    """Make what is missing; those items, or None in a process that is not the one to report.

    What stood in their place is taken away first, so that nothing old passes as made.
    """
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
        return []
    module = Composer(base, usable.concepts, job.method, sampling.steps, sampling.guidance_scale)
    writer = CompositionWriter(job.folder, recipe, job.figures, job.provenance)
    callbacks = [writer, BatchProgress(len(missing)), HeedSigterm()]
    if job.logger.kind == "wandb":
        callbacks.append(CompositionTable(job.logger.project, job.logger.max_images, job.folder))
    together = job.trainer.processes > 1
    trainer = job.trainer.make(
        callbacks=callbacks,
        default_root_dir=job.folder,
        **({"strategy": several_processes()} if together else {}),
    )
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        if job.keep_earlier and (kept := set_aside(missing, job.folder)):
            log.info("%d earlier pictures, made from other inputs, are kept in earlier/", kept)
        clear(missing, job.folder)
        (job.folder / MANIFEST).unlink(missing_ok=True)  # it lists what is gone now
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
    return missing if trainer.is_global_zero else None


def _report(made: Sequence[Item], items: Sequence[Item], folder: Path) -> dict[Item, str]:
    """List what was made now and tell what failed; why, by item."""
    failed = {item: error for item in items if (error := error_of(item, folder)) is not None}
    whole = [item for item in made if item not in failed]
    if len(whole) <= _LISTED:
        for item in whole:
            log.info("%s", item.path(folder, ".png"))
    tell_failures(failed)
    return failed


_LISTED = 64  # more lines than this nobody reads


def _refuse(rejected: Sequence[Rejected]) -> None:
    """Raise InputError for the first of wrong lines, if there is one."""
    if rejected:
        first = min(rejected, key=lambda wrong: wrong.line)
        more = f" (and {len(rejected) - 1} more wrong lines)" if len(rejected) > 1 else ""
        raise InputError(f"line {first.line} of the layouts file: {first.error}{more}")
