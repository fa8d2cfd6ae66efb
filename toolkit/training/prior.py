"""Prior preservation (DreamBooth, arXiv 2208.12242): pictures that hold the class word still."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from toolkit.backbones import Base
from toolkit.config.schema import TrainConfig
from toolkit.files import whole_file
from toolkit.images.tensors import image_of
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.prior_asked import prior_images, wanted_number
from toolkit.training.sampling import sample
from toolkit.training.views import ImageViews

_AT_ONCE = 4


@dataclass(frozen=True)
class Prior:
    """Pictures of the class word. weight: of their loss beside the concept's."""

    images: ImageViews
    weight: float


def pictures_of_class(config: TrainConfig, base: Base) -> tuple[ConceptImage, ...]:
    """The pictures that `training.prior` names; those that the base makes are made where missing.

    They are kept in `outputs/prior/MODEL/` for every concept of the class word.
    """
    number = wanted_number(config)
    if number is None:
        return prior_images(config)
    word = config.concept.class_word
    folder = _folder(config, base)
    paths = [folder / f"{seed:05}.png" for seed in range(number)]
    missing = [seed for seed, path in enumerate(paths) if not path.is_file()]
    size = (config.model.width, config.model.height)
    with torch.no_grad(), base.heard_by_layer():
        said = base.encode_prompts([base.tokenise(word)])
        for start in range(0, len(missing), _AT_ONCE):
            seeds = missing[start : start + _AT_ONCE]
            latents = sample(
                base, said, seeds, size, config.sampling.steps, config.sampling.guidance_scale
            )
            for seed, pixels in zip(seeds, base.decode(latents), strict=True):
                with whole_file(paths[seed]) as temporary:
                    image_of(pixels).save(temporary)
    return tuple(ConceptImage(path, word) for path in paths)


def _folder(config: TrainConfig, base: Base) -> Path:
    """A folder for the class word, and for all else that the pictures depend on."""
    model, sampling = config.model, config.sampling
    facts = [config.concept.class_word, model.width, model.height, sampling.steps,
             sampling.guidance_scale, base.architecture, base.weights]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    word = re.sub(r"\W+", "_", config.concept.class_word)[:40]
    return config.output_dir / "prior" / model.name / f"{word}_{digest}"
