"""Batches of latents, masks, noise and timesteps, the same at step k whatever came before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from toolkit.backbones.unet.framing import Framing
from toolkit.training.captions import Captions
from toolkit.training.frames import Frame
from toolkit.training.order import CAPTIONS, PRIOR, STEP, generator_at, order, order_by_size
from toolkit.training.prior import Prior
from toolkit.training.views import ImageViews, View


@dataclass(frozen=True)
class TrainingBatch:
    """What one step needs.

    latents, noise: (n, channels, h, w). timesteps: (n,). masks: (n, 1, h, w) in 0..1.
    has_mask: (n,) whether the mask came from a file.
    weights: (n,) what each picture's loss counts in the mean over the batch.
    framings: (n,) what each picture was cut out of.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    masks: Tensor
    has_mask: Tensor
    weights: Tensor
    captions: tuple[str, ...]
    framings: tuple[Framing, ...]

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


@dataclass(frozen=True)
class Shown:
    """What batches are made of: a concept's images, how captions vary, pictures of the prior."""

    images: ImageViews
    captions: Captions = field(default_factory=Captions)
    prior: Prior | None = None


def batch_at(step: int, shown: Shown, draws: Draws) -> TrainingBatch:
    """The batch of step `step`; it depends on nothing else that was drawn before.

    Where images have several sizes the batch has one of them, and may be smaller than others: each
    picture's loss then counts what it counts in a full batch.
    """
    images = shown.images
    generator = generator_at(draws.seed, STEP, step, draws.rank)
    number = step * draws.world_size + draws.rank
    repeats = [image.repeats for image in images.images]
    sizes = [images.views.frame(index).size for index in range(len(repeats))]
    if len(set(sizes)) > 1:
        chosen = order_by_size(repeats, sizes, number, draws.batch_size, draws.seed)
    else:
        start = number * draws.batch_size
        chosen = order(repeats, start, draws.batch_size, draws.seed)
    of_captions = generator_at(draws.seed, CAPTIONS, step, draws.rank)
    batch = _noised(
        [images(index, generator) for index in chosen],
        [shown.captions.at(images.images[index], of_captions) for index in chosen],
        generator,
        draws,
        len(chosen) / draws.batch_size,
    )
    if shown.prior is None:
        return batch
    return joined(batch, _of_prior(shown.prior, number, sizes[chosen[0]], len(chosen), step, draws))


def _of_prior(
    prior: Prior, number: int, size: tuple[int, int], pictures: int, step: int, draws: Draws
) -> TrainingBatch:
    """As many pictures of the class word as the batch has of the concept, in its size."""
    images = prior.images.images
    chosen = order([1] * len(images), number * draws.batch_size, pictures, draws.seed, PRIOR)
    return _noised(
        [prior.images.view(index, Frame(size)) for index in chosen],
        [images[index].caption for index in chosen],
        generator_at(draws.seed, PRIOR, step, draws.rank, 1),
        draws,
        prior.weight * pictures / draws.batch_size,
    )


def _noised(
    views: Sequence[View],
    captions: Sequence[str],
    generator: torch.Generator,
    draws: Draws,
    weight: float,
) -> TrainingBatch:
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
        weights=torch.full((number,), weight),
        captions=tuple(captions),
        framings=tuple(view.framing for view in views),
    )


def joined(concept: TrainingBatch, prior: TrainingBatch) -> TrainingBatch:
    """Both in one; the mean over it is the sum of the means over each."""
    batches = (concept, prior)
    share = (len(concept.captions) + len(prior.captions)) / len(concept.captions)
    return TrainingBatch(
        latents=torch.cat([one.latents for one in batches]),
        noise=torch.cat([one.noise for one in batches]),
        timesteps=torch.cat([one.timesteps for one in batches]),
        masks=torch.cat([one.masks for one in batches]),
        has_mask=torch.cat([one.has_mask for one in batches]),
        weights=torch.cat([one.weights for one in batches]) * share,
        captions=concept.captions + prior.captions,
        framings=concept.framings + prior.framings,
    )


def stacked(views: Sequence[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, masks (ones where there is none) and whether there is one, of `TrainingBatch`."""
    latents = torch.stack([view.latents for view in views])
    whole = torch.ones(1, *latents.shape[2:])
    masks = torch.stack([whole if view.mask is None else view.mask for view in views])
    return latents, masks, torch.tensor([view.mask is not None for view in views])


class ConceptData(LightningDataModule):
    """The batches of one concept, from the step at which training stands."""

    def __init__(self, shown: Shown, draws: Draws) -> None:
        super().__init__()
        self.shown = shown
        self.draws = draws

    def train_dataloader(self) -> DataLoader[TrainingBatch]:
        """An endless loader; after a resume its first batch is the one that comes next."""
        assert self.trainer is not None
        draws = replace(
            self.draws, rank=self.trainer.global_rank, world_size=self.trainer.world_size
        )
        return DataLoader(_Steps(self.shown, draws, self.trainer), batch_size=None)


class _Steps(IterableDataset[TrainingBatch]):
    """Each pass goes on where training stands: Lightning begins anew at a limit of batches."""

    def __init__(self, shown: Shown, draws: Draws, trainer: Trainer) -> None:
        self.shown, self.draws, self.trainer = shown, draws, trainer

    def __iter__(self) -> Iterator[TrainingBatch]:
        first = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return (batch_at(step, self.shown, self.draws) for step in count(first))
