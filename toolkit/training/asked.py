"""What a training is asked for, checked as far as files tell, without torch."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from toolkit.backbones.identity import Identity
from toolkit.backbones.source import check_local
from toolkit.backbones.unet.configuration import read_configuration
from toolkit.concept.stored import CONES2, ED_LORA, concept_path, training_of
from toolkit.config.schema import TrainConfig
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

logger = logging.getLogger(__name__)

_NO_EFFECT = {"checkpoint_every_steps", "sample_every_steps", "sample_prompts"}


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
    _check_prompts(config.training.sample_prompts, config.concept.name)
    model = config.model
    check_local(model.path)
    configuration = read_configuration(model.path)
    sizes = configuration and configuration.sizes(model.guidance_downscale)
    if sizes:
        sizes.check_training(model.width, model.height, model.name)
    given = read_concept_folder(
        config.concept.images, config.concept.name, config.training.skip_unreadable
    )
    return _without_texts(given) if config.training.recipe == CONES2 else given


def _without_texts(given: ConceptFolder) -> ConceptFolder:
    """The same, with a warning where there are captions or masks, which Cones 2 does not use."""
    captions = sum(image.captioned for image in given.images)
    masks = sum(image.mask is not None for image in given.images)
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
    circumstances = Circumstances(dtype=model.dtype or "float32")
    identity = configuration.identity(model.name, circumstances.dtype)
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
    return concept_path(config.output_dir, config.model.name, config.concept.name, recipe)


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
    chosen = {key: value for key, value in asdict(config.training).items() if key not in _NO_EFFECT}
    chosen |= {
        "class_word": config.concept.class_word,
        "width": config.model.width,
        "height": config.model.height,
        **asdict(circumstances),
        "base": f"{base.architecture} {base.weights}",
        "images": _digest(images),
    }
    if config.training.recipe != ED_LORA:
        chosen["recipe"] = config.training.recipe
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in chosen.items()
    }


def is_trained(file: Path, settings: dict[str, str]) -> bool:
    """Whether a concept's file is there, whole, and trained with these settings."""
    return training_of(file) == settings


def _digest(images: Sequence[ConceptImage]) -> str:
    """Changes when an image, a mask, a caption or a repeat count does."""
    facts = [
        (sha256_of(image.path), image.caption, image.mask and sha256_of(image.mask), image.repeats)
        for image in images
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_prompts(prompts: Sequence[str], name: str) -> None:
    for prompt in prompts:
        if not names_concept(prompt, name):
            raise InputError(
                f"training.sample_prompts: {prompt!r} does not name the concept: "
                f"write <{name}> in it"
            )
