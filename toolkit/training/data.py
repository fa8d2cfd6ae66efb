"""Batches of latents, masks, noise and timesteps, the same at step k whatever came before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from toolkit.backbones import Base
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.views import ImageViews, View, Views

_ORDER, _STEP = 0, 1  # keep the two kinds of draws apart


@dataclass(frozen=True)
class TrainingBatch:
    """What one step needs.

    latents, noise: (n, channels, h, w). timesteps: (n,). masks: (n, 1, h, w) in 0..1.
    has_mask: (n,) whether the mask came from a file.
    weights: (n,) what each picture's loss counts in the mean over the batch.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    masks: Tensor
    has_mask: Tensor
    weights: Tensor
    captions: tuple[str, ...]

    def to(self, device: torch.device, non_blocking: bool = False) -> "TrainingBatch":
        """The same on `device`; Lightning calls it."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return replace(
            self,
            latents=moved(self.latents),
            noise=moved(self.noise),
            timesteps=moved(self.timesteps),
            masks=moved(self.masks),
            has_mask=moved(self.has_mask),
            weights=moved(self.weights),
        )


@dataclass(frozen=True)
class Draws:
    """What decides a step's randomness. rank, world_size: of this process among the devices."""

    seed: int
    batch_size: int
    noise_offset: float
    timesteps: int
    rank: int = 0
    world_size: int = 1


def order(repeats: Sequence[int], start: int, number: int, seed: int) -> list[int]:
    """Which images stand at places start to start + number of an endless shuffled sequence.

    In each round every image comes as often as its repeats say, in a new order.
    """
    pool = torch.tensor([i for i, times in enumerate(repeats) for _ in range(times)])
    chosen: list[int] = []
    while len(chosen) < number:
        turn, place = divmod(start + len(chosen), len(pool))
        shuffled = pool[torch.randperm(len(pool), generator=generator_at(seed, _ORDER, turn))]
        chosen += shuffled[place : place + number - len(chosen)].tolist()
    return chosen


def batch_at(step: int, images: ImageViews, draws: Draws) -> TrainingBatch:
    """The batch of step `step`; it depends on nothing else that was drawn before."""
    generator = generator_at(draws.seed, _STEP, step, draws.rank)
    start = (step * draws.world_size + draws.rank) * draws.batch_size
    repeats = [image.repeats for image in images.images]
    chosen = order(repeats, start, draws.batch_size, draws.seed)
    views = [images(index, generator) for index in chosen]
    latents, masks, has_mask = stacked(views)
    number, channels = latents.shape[:2]
    noise = torch.randn(latents.shape, generator=generator)
    offset = torch.randn((number, channels, 1, 1), generator=generator)
    return TrainingBatch(
        latents=latents,
        noise=noise + draws.noise_offset * offset,
        timesteps=torch.randint(draws.timesteps, (number,), generator=generator),
        masks=masks,
        has_mask=has_mask,
        weights=torch.ones(number),
        captions=tuple(images.images[index].caption for index in chosen),
    )


def stacked(views: Sequence[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, masks (ones where there is none) and whether there is one, of `TrainingBatch`."""
    latents = torch.stack([view.latents for view in views])
    whole = torch.ones(1, *latents.shape[2:])
    masks = torch.stack([whole if view.mask is None else view.mask for view in views])
    return latents, masks, torch.tensor([view.mask is not None for view in views])


class ConceptData(LightningDataModule):
    """The batches of one concept, from the step at which training stands."""

    def __init__(self, base: Base, images: Sequence[ConceptImage], views: Views, draws: Draws):
        super().__init__()
        self.base = base
        self.images = ImageViews(base, images, views)
        self.draws = draws

    def train_dataloader(self) -> DataLoader[TrainingBatch]:
        """An endless loader; after a resume its first batch is the one that comes next."""
        assert self.trainer is not None
        draws = replace(
            self.draws, rank=self.trainer.global_rank, world_size=self.trainer.world_size
        )
        return DataLoader(_Steps(self.images, draws, self.trainer), batch_size=None)


class _Steps(IterableDataset[TrainingBatch]):
    """Each pass goes on where training stands: Lightning begins anew at a limit of batches."""

    def __init__(self, images: ImageViews, draws: Draws, trainer: Trainer) -> None:
        self.images, self.draws, self.trainer = images, draws, trainer

    def __iter__(self) -> Iterator[TrainingBatch]:
        first = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return (batch_at(step, self.images, self.draws) for step in count(first))


def generator_at(seed: int, *place: int) -> torch.Generator:
    """A generator whose draws at (seed, *place) are unrelated to those at all others."""
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)
    return torch.Generator("cpu").manual_seed(int(state[0]) % 2**63)
