"""`toolkit train` for one concept: from a checked config to a concept file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from toolkit.backbones import Base, load_base
from toolkit.backbones.memory import check_memory
from toolkit.backbones.waiting import WAIT_WHILE_TRAINING
from toolkit.concept import save_concept
from toolkit.config.schema import TrainConfig, TrainingConfig
from toolkit.config.trainer_values import Work
from toolkit.errors import InputError, RunError, Stopped, one_line, ran_out_of_memory
from toolkit.files import from_anywhere
from toolkit.text.wording import counted
from toolkit.trainer import CheckedTrainer, check_trainer, told_of
from toolkit.training.asked import (
    Circumstances,
    check_asked,
    concept_file,
    is_trained,
    settings_of,
    tell,
    tell_trained,
    training_folder,
)
from toolkit.training.captions import of_class_word
from toolkit.training.checkpoints import Checkpoints, Interrupted
from toolkit.training.concept_folder import ConceptFolder, ConceptImage
from toolkit.training.data import ConceptData, Draws
from toolkit.training.learner import Learner
from toolkit.training.measurements import Measurements, TimeLeft, TimeToCome
from toolkit.training.prior import pictures_of_class
from toolkit.training.prior_asked import wanted_prior
from toolkit.training.recipes import LEARNERS, learner_of
from toolkit.training.sample_grids import SampleGrids
from toolkit.training.shown import what_is_shown
from toolkit.training.validation import Validation

logger = logging.getLogger(__name__)


def check(config: TrainConfig) -> CheckedTrainer:
    """The Trainer's arguments, as Lightning takes them. Raises InputError for what it refuses."""
    trainer = check_trainer(config.trainer.arguments, Work.TRAIN)
    if config.logger.kind == "wandb":
        from toolkit.tracking.wandb_settings import check_wandb  # slow to import

        check_wandb()
    return trainer


def train(config: TrainConfig, given: ConceptFolder | None = None) -> Path:
    """Train one concept, going on from its last checkpoint; returns its file.

    given: the concept's folder, where it was read and checked already.
    Does nothing when the file is there and was made with the same settings, images and base.
    Raises InputError before anything heavy starts, RunError when training fails, and
    KeyboardInterrupt on Ctrl-C, after the checkpoint was saved.
    """
    concept, options = config.concept, config.training
    checked = check(config)
    given = check_asked(config) if given is None else given
    tell(given)
    images = _told(config, given.images)
    for remark in checked.remarks:
        logger.warning("%s", remark)
    file, folder = concept_file(config), training_folder(config)
    validation = _validation(config, folder)
    trainer = checked.make(
        max_steps=options.steps,
        default_root_dir=folder,
        callbacks=_callbacks(config, folder, validation),
        **({} if options.max_grad_norm is None else {"gradient_clip_val": options.max_grad_norm}),
    )
    base = _load(config, checked.dtype_of_base(config.model.dtype))
    settings = settings_of(config, _circumstances(trainer, base), base.identity, images)
    if is_trained(file, settings):
        tell_trained(file)
        return file
    pictures = () if wanted_prior(config) is None else pictures_of_class(config, base)
    with learner_of(config, base, settings, images) as training:
        logger.info("%s", _plan(config, trainer, checked.precision, images))
        offset = options.noise_offset if isinstance(options, TrainingConfig) else 0.0
        draws = Draws(options.seed, options.batch_size, offset, training.schedule.timesteps)
        shown, held_out = what_is_shown(config, base, images, folder, pictures)
        if validation is not None:
            validation.held_out, validation.trained = held_out, shown.images
        _fit(trainer, training, ConceptData(shown, draws), _checkpoint(folder))
        enough = validation is not None and validation.has_ended
        if trainer.global_step != options.steps and not enough:
            raise _ended_early(trainer, options.steps, file)
        if validation is not None:
            validation.conclude(options.steps)
        training.hold_written(validation.best if validation and validation.keep else None)
        if trainer.is_global_zero:
            learned = training.concept(concept.class_word)
            save_concept(replace(learned, images=from_anywhere(concept.images)), file)
    return file


def _told(config: TrainConfig, images: Sequence[ConceptImage]) -> tuple[ConceptImage, ...]:
    """The images with the captions that this training reads."""
    concept, options = config.concept, config.training
    if isinstance(options, TrainingConfig) and options.captions == "class_word":
        return tuple(of_class_word(one, concept.name, concept.class_word) for one in images)
    if isinstance(options, TrainingConfig) and options.caption_lines:
        return tuple(images)
    return tuple(replace(one, lines=()) for one in images)


def _plan(
    config: TrainConfig, trainer: Trainer, precision: str, images: Sequence[ConceptImage]
) -> str:
    """What is about to be done, in one line."""
    model, options = config.model, config.training
    each = " in each" if trainer.world_size > 1 else ""
    words = [
        f"training {config.concept.name} on {model.name}: {model.width} x {model.height} pixels",
        told_of(trainer, precision),
        f"{counted(options.steps, 'step')} of {counted(options.batch_size, 'image')}{each}",
    ]
    if isinstance(options, TrainingConfig) and any(image.mask for image in images):
        inside = "inside the masks" if options.mask_loss else "over the whole picture, masks or not"
        words.append(f"the loss taken {inside}")
    return ", ".join(words)


def _load(config: TrainConfig, dtype: torch.dtype) -> Base:
    model = config.model
    base = load_base(
        model.path,
        model.name,
        guidance_downscale=model.guidance_downscale,
        guidance_layers=model.guidance_layers,
        prediction_type=model.prediction_type,
        dtype=dtype,
        waiting=WAIT_WHILE_TRAINING if model.offload else (),
    )
    base.sizes.check_training(model.width, model.height, base.name)
    check_memory("training", base, model.width, model.height, config.training.batch_size)
    if model.gradient_checkpointing:
        base.checkpoint_gradients()
    return base


def _validation(config: TrainConfig, folder: Path) -> Validation | None:
    options = config.training
    if not isinstance(options, TrainingConfig) or options.validation == 0:
        return None
    every = options.validate_every_steps or max(options.steps // 20, 1)
    keep = options.keep == "best"
    return Validation(
        folder, every, options.batch_size, options.seed, keep=keep, patience=options.patience
    )


def _callbacks(config: TrainConfig, folder: Path, validation: Validation | None) -> list[Callback]:
    """In the order in which they act after a step; the checkpoint comes last."""
    name, options = config.concept.name, config.training
    grids = SampleGrids(
        folder / "samples",
        options.sample_every_steps,
        options.sample_prompts or (f"<{name}>",),
        (config.model.width, config.model.height),
        config.sampling.steps,
        config.sampling.guidance_scale,
    )
    chosen: list[Callback] = [grids] if validation is None else [validation, grids]
    if config.trainer.arguments.get("enable_progress_bar", True):
        chosen.append(TimeLeft(f"train {name}"))
    chosen.append(TimeToCome(options.sample_every_steps))
    if config.logger.kind != "none":
        measures = LEARNERS[options.recipe].measures
        chosen.append(Measurements(folder / "metrics.csv", measures))
    if config.logger.kind == "wandb":
        from toolkit.training.wandb_run import WandbRun  # slow to import

        chosen.append(
            WandbRun(
                config.logger.project, name, folder, config.logger.max_images, grids, validation
            )
        )
    if config.logger.kind == "tensorboard":
        from toolkit.training.tensorboard_run import TensorBoardRun  # slow to import

        chosen.append(TensorBoardRun(folder, config.logger.max_images, grids, validation))
    return [*chosen, Checkpoints(_checkpoint(folder), options.checkpoint_every_steps)]


def _fit(trainer: Trainer, training: Learner, data: ConceptData, checkpoint: Path) -> None:
    resume = checkpoint if _fits(checkpoint, training.settings) else None
    if resume:
        logger.info("going on from %s", resume)
    try:
        trainer.fit(training, datamodule=data, ckpt_path=resume, weights_only=True)
    except Interrupted:
        reached = f"step {trainer.global_step} of {training.steps}"
        logger.info("stopped at %s: the same command goes on from there", reached)
        raise KeyboardInterrupt from None
    except (Stopped, SIGTERMException):  # Lightning's own between two steps
        raise Stopped(_how_far(trainer, training.steps)) from None
    except SystemExit:  # Lightning's answer to Ctrl-C outside of a step
        raise KeyboardInterrupt from None
    except MisconfigurationException as error:
        kind = RunError if trainer.global_step else InputError
        raise kind(f"Lightning cannot train so: {one_line(error)}") from error
    except Exception as error:
        if ran_out_of_memory(error):
            raise RunError(
                "not enough memory: lower training.batch_size, or set "
                "model.gradient_checkpointing=true"
            ) from error
        if "use_deterministic_algorithms" in str(error):
            raise RunError(f"trainer.deterministic: {one_line(error)}") from error
        raise


def _ended_early(trainer: Trainer, steps: int, file: Path) -> RunError:
    older = f"; {file} is of an earlier training" if file.exists() else ""
    return RunError(_how_far(trainer, steps) + older)


def _how_far(trainer: Trainer, steps: int) -> str:
    """What is said of a training that did not reach its last step."""
    reached = trainer.global_step
    if reached > steps:  # trainer.fast_dev_run has a number of steps of its own
        return f"training went on to step {reached}, beyond its {steps}: no concept is written"
    kept = "; the same command goes on from its checkpoint" if reached else ""
    return (
        f"training ended early, at step {reached} of {steps}: no concept is written{kept} (it was "
        "a signal, or trainer.max_time, fast_dev_run, limit_train_batches and their like)"
    )


def _circumstances(trainer: Trainer, base: Base) -> Circumstances:
    return Circumstances(
        dtype=str(base.dtype).removeprefix("torch."),
        precision=trainer.precision,
        devices=trainer.world_size,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        gradient_clip_val=trainer.gradient_clip_val,
    )


def _checkpoint(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def _fits(checkpoint: Path, settings: Mapping[str, str]) -> bool:
    """Whether the checkpoint is there and was made with the same settings."""
    if not checkpoint.is_file():
        return False
    try:
        held = dict(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True))
        whole = {"state_dict", "optimizer_states", "lr_schedulers", "loops"} <= set(held)
    except Exception:  # zip, pickle and torch each have errors of their own for what is damaged
        whole = False
    if not whole:
        logger.warning("%s is damaged: training anew", checkpoint)
        return False
    if held.get("settings") == settings:
        return True
    logger.info("%s was made with other settings: training anew", checkpoint)
    return False
