"""The pictures, noise and timesteps on which validation measures a loss: the same every time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from toolkit.training.data import TrainingBatch, stacked
from toolkit.training.frames import Frame
from toolkit.training.order import NOISE, generator_at
from toolkit.training.views import ImageViews, View

FEWEST_DRAWS, MOST_IMAGES = 16, 32

_CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
_ZOOM = 0.85


@dataclass(frozen=True)
class Shown:
    """An image in a frame."""

    index: int
    frame: Frame
    mirrored: bool = False


def as_they_are(images: ImageViews) -> list[Shown]:
    """Up to MOST_IMAGES of the images, spread over all, each cut as training cuts it."""
    number = min(len(images.images), MOST_IMAGES)
    chosen = [place * len(images.images) // number for place in range(number)]
    return [Shown(index, images.views.frame(index)) for index in chosen]


def unseen_cuts(images: ImageViews) -> list[Shown]:
    """The same images mirrored, each without a margin at two of its sides."""
    return [
        Shown(
            shown.index,
            Frame(shown.frame.size, _CORNERS[place % len(_CORNERS)], zoom=_ZOOM),
            mirrored=True,
        )
        for place, shown in enumerate(as_they_are(images))
    ]


def batches(
    images: ImageViews, shown: Sequence[Shown], draws: int, size: int, timesteps: int, seed: int
) -> Iterator[TrainingBatch]:
    """`draws` pictures at fixed noise, `size` or fewer at once, those of one shape together.

    Draw k shows the images in turn, at a timestep in the k-th part of all, with the k-th noise:
    what differs between two sets of images is the images.
    """
    order = sorted(range(draws), key=lambda k: shown[k % len(shown)].frame.size)
    while order:
        first = shown[order[0] % len(shown)].frame.size
        chosen = [k for k in order[:size] if shown[k % len(shown)].frame.size == first]
        order = order[len(chosen) :]
        views: list[View] = []
        captions = []
        for k in chosen:
            one = shown[k % len(shown)]
            views.append(images.view(one.index, one.frame, one.mirrored))
            image = images.images[one.index]
            captions.append((image.lines or (image.caption,))[0])
        latents, masks, has_mask = stacked(views)
        noise = [
            torch.randn(latents.shape[1:], generator=generator_at(seed, NOISE, k)) for k in chosen
        ]
        yield TrainingBatch(
            latents=latents,
            noise=torch.stack(noise),
            timesteps=torch.tensor([int((k + 0.5) * timesteps / draws) for k in chosen]),
            masks=masks,
            has_mask=has_mask,
            weights=torch.ones(len(chosen)),
            captions=tuple(captions),
            framings=tuple(view.framing for view in views),
        )
