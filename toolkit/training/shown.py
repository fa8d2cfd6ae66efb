"""What a training is shown: its images cut and divided, what varies of them, and the prior's."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from toolkit.backbones import Base
from toolkit.config.schema import TrainConfig, TrainingConfig
from toolkit.training.captions import Captions
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.crops import write_crops
from toolkit.training.data import Shown
from toolkit.training.frames import Frame
from toolkit.training.framing import in_buckets
from toolkit.training.held_out import split
from toolkit.training.latent_store import LatentStore
from toolkit.training.prior import Prior
from toolkit.training.views import ImageViews, Views

logger = logging.getLogger(__name__)


def what_is_shown(
    config: TrainConfig,
    base: Base,
    images: Sequence[ConceptImage],
    folder: Path,
    pictures: Sequence[ConceptImage],
) -> tuple[Shown, ImageViews]:
    """What batches are made of, and the images that validation holds out.

    Says how images are cut and divided, and draws that into `crops.png` in `folder`.
    pictures: of the class word, for the prior.
    Raises InputError for images that are too small.
    """
    options = config.training
    size = (config.model.width, config.model.height)
    frames = _frames(config, base, images)
    store = _store(config, base) if options.cache == "disk" else None
    _draw(images, frames, folder / "crops.png", options.random_crop)
    place_of = {image.path: place for place, image in enumerate(images)}

    def views_of(part: Sequence[ConceptImage]) -> ImageViews:
        own = tuple(frames[place_of[image.path]] for image in part)
        views = Views(size, options.random_crop, options.mirror, own)
        return ImageViews(base, part, views, store)

    trained: Sequence[ConceptImage] = images
    held_out: Sequence[ConceptImage] = ()
    captions, prior = Captions(), None
    if isinstance(options, TrainingConfig):
        captions = Captions(options.caption_dropout, options.shuffle_tags, options.keep_tags)
        if pictures:
            prior = Prior(ImageViews(base, pictures, Views(size), store), options.prior_weight)
        if options.validation > 0:
            parts = split(images, options.validation, options.seed)
            _say("%s", parts.told())
            trained, held_out = parts.trained, parts.held_out
    return Shown(views_of(trained), captions, prior), views_of(held_out)


def _frames(config: TrainConfig, base: Base, images: Sequence[ConceptImage]) -> tuple[Frame, ...]:
    size = (config.model.width, config.model.height)
    if not config.training.buckets:
        return (Frame(size),) * len(images)
    framing = in_buckets(images, size, base.sizes.size_multiple, config.training.max_upscale)
    _say("%s", framing.told)
    for warning in framing.warnings:
        rank_zero_only(logger.warning)("%s", warning)
    return framing.frames


def _store(config: TrainConfig, base: Base) -> LatentStore:
    folder = config.output_dir / "cache" / "latents" / config.model.name
    return LatentStore(folder, f"{base.identity.autoencoder} {base.dtype}")


@rank_zero_only
def _draw(
    images: Sequence[ConceptImage], frames: Sequence[Frame], path: Path, cut_anew: bool
) -> None:
    note = "; each step cuts anew, this is the middle" if cut_anew else ""
    write_crops(images, frames, path, note)


@rank_zero_only
def _say(*told: object) -> None:
    logger.info(*told)
