"""Batches of latents, masks, noise and timesteps, the same at step k whatever came before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from toolkit.backbones import Base
from toolkit.images.pictures import fit, read_mask, read_picture
from toolkit.images.tensors import pixels_of
from toolkit.training.concept_folder import ConceptImage

_ORDER, _STEP = 0, 1  # keep the two kinds of draws apart


@dataclass(frozen=True)
class Views:
    """How images are shown.

    size: width and height in pixels. crop: a new cut at each step instead of the middle.
    """

    size: tuple[int, int]
    crop: bool = False
    mirror: bool = False


@dataclass(frozen=True)
class TrainingBatch:
    """What one step needs.

    latents, noise: (n, channels, h, w). timesteps: (n,). masks: (n, 1, h, w) in 0..1.
    has_mask: (n,) whether the mask came from a file.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    masks: Tensor
    has_mask: Tensor
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
        )


@dataclass(frozen=True)
class _View:
    """One image, encoded. latents: (channels, h, w). mask: (1, h, w), or None."""

    latents: Tensor
    mask: Tensor | None


class ImageViews:
    """Images as latents. Each is encoded once, unless every step cuts anew."""

    def __init__(self, base: Base, images: Sequence[ConceptImage], views: Views) -> None:
        self.base = base
        self.images = images
        self.views = views
        self.kept: dict[tuple[int, bool], _View] = {}

    def __call__(self, index: int, generator: torch.Generator) -> _View:
        """Image `index` as this step shows it; `generator` decides cut and mirroring."""
        across, down, side = torch.rand(3, generator=generator).tolist()
        mirrored = self.views.mirror and side < 0.5
        if self.views.crop:
            return self._encode(index, mirrored, (across, down))
        key = (index, mirrored)
        if key not in self.kept:
            self.kept[key] = self._encode(index, mirrored, (0.5, 0.5))
        return self.kept[key]

    @torch.no_grad()
    def _encode(self, index: int, mirrored: bool, place: tuple[float, float]) -> _View:
        image = self.images[index]
        pixels = pixels_of(fit(read_picture(image.path), *self.views.size, place))
        if mirrored:
            pixels = pixels.flip(-1)
        latents = self.base.encode(pixels[None])[0].float().cpu()
        mask = None
        if image.mask is not None:
            mask = pixels_of(fit(read_mask(image.mask, image.path), *self.views.size, place))
            if mirrored:
                mask = mask.flip(-1)
            mask = functional.adaptive_avg_pool2d(mask, (latents.shape[1], latents.shape[2]))
            if mask.max() == 0:  # the cut missed the subject: the whole cut counts
                mask = None
        return _View(latents, mask)


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
        shuffled = pool[torch.randperm(len(pool), generator=_generator(seed, _ORDER, turn))]
        chosen += shuffled[place : place + number - len(chosen)].tolist()
    return chosen


def batch_at(step: int, images: ImageViews, draws: Draws) -> TrainingBatch:
    """The batch of step `step`; it depends on nothing else that was drawn before."""
    generator = _generator(draws.seed, _STEP, step, draws.rank)
    start = (step * draws.world_size + draws.rank) * draws.batch_size
    repeats = [image.repeats for image in images.images]
    chosen = order(repeats, start, draws.batch_size, draws.seed)
    views = [images(index, generator) for index in chosen]
    latents = torch.stack([view.latents for view in views])
    number, channels, height, width = latents.shape
    noise = torch.randn(latents.shape, generator=generator)
    offset = torch.randn((number, channels, 1, 1), generator=generator)
    whole = torch.ones(1, height, width)
    return TrainingBatch(
        latents=latents,
        noise=noise + draws.noise_offset * offset,
        timesteps=torch.randint(draws.timesteps, (number,), generator=generator),
        masks=torch.stack([whole if view.mask is None else view.mask for view in views]),
        has_mask=torch.tensor([view.mask is not None for view in views]),
        captions=tuple(images.images[index].caption for index in chosen),
    )


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


def _generator(seed: int, *place: int) -> torch.Generator:
    """A generator whose draws at (seed, *place) are unrelated to those at all others."""
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)
    return torch.Generator("cpu").manual_seed(int(state[0]) % 2**63)
