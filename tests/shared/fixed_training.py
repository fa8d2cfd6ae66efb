"""An ED-LoRA's training on a fixed batch, on any family's tiny base."""

from pathlib import Path

import torch

from toolkit.backbones import Base, Place
from toolkit.training.concept_folder import read_concept_folder
from toolkit.training.data import Draws, Shown, TrainingBatch, batch_at
from toolkit.training.ed_lora import initial_embeddings
from toolkit.training.module import ConceptTraining
from toolkit.training.optimisers import LearningRates
from toolkit.training.views import ImageViews, Views

STEPS = 40


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def training_on(base: Base) -> ConceptTraining:
    """To be used under the base's `lora_injected` and `heard_by_layer`."""
    start = initial_embeddings(base, "dog", generator())
    rates = LearningRates(dict.fromkeys(Place, 1e-2), 1e-2)
    return ConceptTraining(base, "rex", {}, start, rates, STEPS)


def batch_of(base: Base, images: Path, number: int, size: tuple[int, int]) -> TrainingBatch:
    views = ImageViews(base, read_concept_folder(images, "rex").images, Views(size))
    return batch_at(0, Shown(views), Draws(0, number, 0.0, 1000))
