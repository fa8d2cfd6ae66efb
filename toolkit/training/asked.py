"""What a training is asked for, checked as far as files tell, without torch."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from toolkit.backbones.families import two_text_encoders
from toolkit.backbones.identity import Identity
from toolkit.backbones.source import check_local
from toolkit.backbones.unet.configuration import read_configuration
from toolkit.concept.stored import CONES2, ED_LORA, concept_path, training_of
from toolkit.config.schema import TrainConfig, TrainingConfig
from toolkit.config.trainer import check_early, is_plain
from toolkit.config.trainer_values import Work
from toolkit.errors import InputError
from toolkit.files import check_writable, sha256_of
from toolkit.text.wording import counted
from toolkit.training.concept_folder import (
    ConceptFolder,
    ConceptImage,
    names_concept,
    read_concept_folder,
)
from toolkit.training.framing import in_buckets
from toolkit.training.prior_asked import prior_images, wanted_number, wanted_prior

logger = logging.getLogger(__name__)

_NO_EFFECT = {"cache", "checkpoint_every_steps", "sample_every_steps", "sample_prompts"}
_PACKAGES = {
    "adamw8bit": "bitsandbytes",
    "prodigy": "prodigyopt",
    "schedulefree": "schedulefree",
    "lion": "lion_pytorch",
}
_ALWAYS_RECORDED = {
    "steps", "batch_size", "learning_rate_text_encoder", "learning_rate_unet",
    "learning_rate_embeddings", "rank", "noise_offset", "seed", "mask_loss",
    "attention_regularisation", "max_embedding_norm", "skip_unreadable", "random_crop", "mirror",
}  # fmt: skip
"""What an ED-LoRA's first files record. Its later keys stand there where they are not at their
default, so that a concept that was trained before they came is known to be trained as is asked."""


@dataclass(frozen=True)
class Circumstances:
    """What a result depends on besides its config: the trainer's, as Lightning calls it."""

    dtype: str = "float32"
    precision: str = "32-true"
    devices: int = 1
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None


def check_asked(config: TrainConfig) -> ConceptFolder:
    """The concept's folder. Raises InputError for all that can be told without torch."""
    check_early(config.trainer.arguments, Work.TRAIN)
    check_writable(training_folder(config))
    check_writable(concept_file(config).parent)
    if config.logger.kind == "tensorboard" and find_spec("tensorboard") is None:
        raise InputError(
            "logger=tensorboard needs the package tensorboard: "
            "pip install 'lora-composer-toolkit[tensorboard]'"
        )
    if isinstance(config.training, TrainingConfig):
        _check_optimiser(config.training.optimizer)
    if config.training.max_grad_norm is not None and (
        config.trainer.arguments.get("gradient_clip_val") is not None
    ):
        raise InputError("training.max_grad_norm is trainer.gradient_clip_val: give one of them")
    _check_prompts(config.training.sample_prompts, config.concept.name)
    model = config.model
    check_local(model.path)
    configuration = read_configuration(model.path)
    sizes = configuration and configuration.sizes(model.guidance_downscale)
    if sizes:
        sizes.check_training(model.width, model.height, model.name)
    if config.training.recipe == CONES2 and configuration and configuration.text_encoder_2:
        raise two_text_encoders(model.name)
    if wanted_prior(config) is not None and wanted_number(config) is None:
        prior_images(config)
    given = read_concept_folder(
        config.concept.images, config.concept.name, config.training.skip_unreadable
    )
    if sizes and config.training.buckets:
        in_buckets(
            given.images,
            (model.width, model.height),
            sizes.size_multiple,
            config.training.max_upscale,
        )
    if config.training.recipe != CONES2:
        return given
    return _without_texts(given, config.training.buckets)


def _without_texts(given: ConceptFolder, buckets: bool) -> ConceptFolder:
    """The same, with a warning where there are captions or masks, which Cones 2 does not use.

    buckets: masks say where these are cut.
    """
    captions = sum(image.captioned for image in given.images)
    masks = 0 if buckets else sum(image.mask is not None for image in given.images)
    if not captions + masks:
        return given
    unused = f"{counted(captions, 'caption')} and {counted(masks, 'mask')}"
    warning = f"not used: {unused} (recipe=cones2 learns from images and the class word)"
    return replace(given, warnings=(*given.warnings, warning))


def trained_already(config: TrainConfig, given: ConceptFolder) -> Path | None:
    """The concept's file if it is there, trained as is asked for, and this says so; else None.

    None, too, where only Lightning or the loaded base can tell.
    """
    model = config.model
    configuration = read_configuration(model.path)
    if configuration is None or not is_plain(config.trainer.arguments):
        return None
    if config.logger.kind == "wandb":  # whose settings are checked first
        return None
    circumstances = Circumstances(
        dtype=model.dtype or "float32", gradient_clip_val=config.training.max_grad_norm
    )
    identity = configuration.identity(model.name, circumstances.dtype, model.overrides)
    file = concept_file(config)
    if identity is None or not file.is_file():
        return None
    if not is_trained(file, settings_of(config, circumstances, identity, given.images)):
        return None
    tell(given)
    tell_trained(file)
    return file


def tell(given: ConceptFolder) -> None:
    """Say what there is to train on, and what in the folder is not used."""
    logger.info("%s", given.inventory)
    for warning in given.warnings:
        logger.warning("%s", warning)


def tell_trained(file: Path) -> None:
    """Say that nothing is left to do."""
    logger.info("%s is already there, trained with these settings", file)


def concept_file(config: TrainConfig) -> Path:
    """Where the concept is kept."""
    recipe = config.training.recipe
    return concept_path(config.concepts_folder, config.model.name, config.concept.name, recipe)


def training_folder(config: TrainConfig) -> Path:
    """Where checkpoints, sample grids and measurements go."""
    folder = config.output_dir / "runs" / "train" / config.model.name
    recipe = config.training.recipe
    return (folder if recipe == ED_LORA else folder / recipe) / config.concept.name


def settings_of(
    config: TrainConfig,
    circumstances: Circumstances,
    base: Identity,
    images: Sequence[ConceptImage],
) -> dict[str, str]:
    """Everything the result depends on, for the record and to tell whether it must be made anew."""
    defaults = asdict(TrainingConfig()) if config.training.recipe == ED_LORA else {}
    chosen = {
        key: value
        for key, value in asdict(config.training).items()
        if key in _ALWAYS_RECORDED
        or (key not in _NO_EFFECT and not (key in defaults and value == defaults[key]))
    }
    chosen |= {
        "class_word": config.concept.class_word,
        "width": config.model.width,
        "height": config.model.height,
        **asdict(circumstances),
        "base": f"{base.architecture} {base.weights} {base.overrides}".rstrip(),
        "images": _digest(images, _reads_lines(config)),
    }
    if config.training.recipe != ED_LORA:
        chosen["recipe"] = config.training.recipe
    if wanted_prior(config) is not None and wanted_number(config) is None:
        chosen["prior_images"] = _digest(prior_images(config), lines=False)
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in chosen.items()
    }


def is_trained(file: Path, settings: dict[str, str]) -> bool:
    """Whether a concept's file is there, whole, and trained with these settings."""
    return training_of(file) == settings


def _digest(images: Sequence[ConceptImage], lines: bool) -> str:
    """Changes when an image, a mask, a caption or a repeat count does.

    lines: whether it matters where a caption's lines end.
    """
    facts = [
        (
            sha256_of(image.path),
            list(image.lines) if lines and image.lines else image.caption,
            image.mask and sha256_of(image.mask),
            image.repeats,
        )
        for image in images
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_optimiser(optimizer: str) -> None:
    package = _PACKAGES.get(optimizer)
    if package and find_spec(package) is None:
        extra = optimizer if optimizer == "adamw8bit" else "optimizers"
        raise InputError(
            f"training.optimizer={optimizer} needs the package {package}: "
            f"pip install 'lora-composer-toolkit[{extra}]'",
            "training.optimizer",
        )


def _reads_lines(config: TrainConfig) -> bool:
    return isinstance(config.training, TrainingConfig) and config.training.caption_lines


def _check_prompts(prompts: Sequence[str], name: str) -> None:
    for prompt in prompts:
        if not names_concept(prompt, name):
            raise InputError(
                f"training.sample_prompts: {prompt!r} does not name the concept: "
                f"write <{name}> in it"
            )
