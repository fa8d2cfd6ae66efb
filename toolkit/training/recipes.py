"""The training of the recipe that was chosen, on a base that is made ready for it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from toolkit.backbones import Base, CrossAttentionMaps, Place
from toolkit.concept.stored import CONES2, ED_LORA
from toolkit.config.cones2 import Cones2Config
from toolkit.config.schema import TrainConfig, TrainingConfig
from toolkit.errors import InputError
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.cones2 import Cones2Training
from toolkit.training.ed_lora import initial_embeddings
from toolkit.training.learner import Learner
from toolkit.training.module import ConceptTraining
from toolkit.training.optimisers import LearningRates, Optimisation

logger = logging.getLogger(__name__)

LEARNERS: Mapping[str, type[Learner]] = {ED_LORA: ConceptTraining, CONES2: Cones2Training}
"""By recipe."""


@contextmanager
def learner_of(
    config: TrainConfig, base: Base, settings: Mapping[str, str], images: Sequence[ConceptImage]
) -> Iterator[Learner]:
    """The training, for as long as the base is ready for it.

    images: with the captions that it reads.
    Raises InputError for a class word or a caption that it cannot learn from.
    """
    concept, options = config.concept, config.training
    if isinstance(options, Cones2Config):
        with base.heard_by_layer():
            yield Cones2Training(base, concept.name, settings, concept.class_word, options)
        return
    assert isinstance(options, TrainingConfig)
    recorder = None
    if options.attention_regularisation > 0:
        recorder = CrossAttentionMaps(base.guidance_downscale)
    generator = torch.Generator("cpu").manual_seed(options.seed)
    embeddings = initial_embeddings(base, concept.class_word, generator)
    with (
        base.lora_injected(options.rank, generator, _ranks(options)),
        base.heard_by_layer(recorder),
    ):
        training = ConceptTraining(
            base,
            concept.name,
            settings,
            embeddings,
            _learning_rates(options),
            options.steps,
            mask_loss=options.mask_loss,
            max_embedding_norm=options.max_embedding_norm,
            attention_weight=options.attention_regularisation,
            recorder=recorder,
            optimisation=Optimisation(
                options.optimizer, options.schedule, options.warmup_steps, options.weight_decay
            ),
            min_snr_gamma=options.min_snr_gamma,
            ema_decay=options.ema_decay,
        )
        _check_captions(training, images)
        yield training


def _learning_rates(options: TrainingConfig) -> LearningRates:
    text_encoder, self_attention, cross_attention = options.learning_rates
    places = {
        Place.TEXT_ENCODER: text_encoder,
        Place.SELF_ATTENTION: self_attention,
        Place.CROSS_ATTENTION: cross_attention,
    }
    return LearningRates(places, options.learning_rate_embeddings, options.lora_plus_ratio)


def _ranks(options: TrainingConfig) -> dict[Place, int]:
    """Of the places that have another rank than the rest."""
    ranks = {
        Place.TEXT_ENCODER: options.rank_text_encoder,
        Place.SELF_ATTENTION: options.rank_self_attention,
        Place.CROSS_ATTENTION: options.rank_cross_attention,
    }
    return {place: rank for place, rank in ranks.items() if rank is not None}


def _check_captions(training: ConceptTraining, images: Sequence[ConceptImage]) -> None:
    """Say which words do not fit into the text encoder's window; the concept must."""
    for image in images:
        for caption in image.lines or (image.caption,):
            prompt = training.tokenise(caption)
            if prompt.lost:
                logger.warning("caption of %s is too long; lost: %s", image.path, prompt.lost)
            if not prompt.concept_tokens:
                raise InputError(
                    f"caption of {image.path} is too long: <{training.name}> stands where the text "
                    "encoder no longer reads; move it to the front"
                )
