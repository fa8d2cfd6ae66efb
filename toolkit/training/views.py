"""Images as latents, as training is shown them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.backbones import Base
from toolkit.backbones.unet.framing import Framing
from toolkit.images.pictures import read_mask, read_picture
from toolkit.images.tensors import pixels_of
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.frames import Frame

MOST_IN_MEMORY = 4096
"""Views; beyond these they are read from disk each time, where they are kept on disk."""


@dataclass(frozen=True)
class Views:
    """How images are shown.

    size: width and height in pixels. crop: a new cut at each step instead of the middle.
    frames: one for each image, where they differ; then `size` is not read.
    """

    size: tuple[int, int]
    crop: bool = False
    mirror: bool = False
    frames: tuple[Frame, ...] = ()

    def frame(self, index: int) -> Frame:
        """How image `index` is cut."""
        return self.frames[index] if self.frames else Frame(self.size)


@dataclass(frozen=True)
class View:
    """One image, encoded.

    latents: (channels, h, w). mask: (1, h, w), or None. framing: the image that it was cut out of,
    and where.
    """

    latents: Tensor
    mask: Tensor | None
    framing: Framing


class Store(Protocol):
    """Keeps views for longer than a training."""

    def digest(self, image: ConceptImage) -> str:
        """Changes when the image does."""
        ...

    def read(self, digest: str, frame: Frame, mirrored: bool) -> View | None:
        """A view that was kept."""
        ...

    def write(self, digest: str, frame: Frame, mirrored: bool, view: View) -> None:
        """Keep a view."""
        ...


class ImageViews:
    """Images as latents. Each is encoded once, unless every step cuts anew."""

    def __init__(
        self,
        base: Base,
        images: Sequence[ConceptImage],
        views: Views,
        store: Store | None = None,
    ) -> None:
        """store: keeps views on disk too, for the next training."""
        self.base = base
        self.images = images
        self.views = views
        self.store = store
        self.kept: dict[tuple[int, Frame, bool], View] = {}
        self.digests: dict[int, str] = {}

    def __call__(self, index: int, generator: torch.Generator) -> View:
        """Image `index` as this step shows it; `generator` decides cut and mirroring."""
        across, down, side = torch.rand(3, generator=generator).tolist()
        mirrored = self.views.mirror and side < 0.5
        frame = self.views.frame(index)
        if self.views.crop:
            place = (_within(across, frame.across), _within(down, frame.down))
            return self._encode(index, replace(frame, place=place), mirrored)
        return self.view(index, frame, mirrored)

    def view(self, index: int, frame: Frame, mirrored: bool = False) -> View:
        """Image `index` in this frame, kept for the next time."""
        key = (index, frame, mirrored)
        if key in self.kept:
            return self.kept[key]
        view = self._encode(*key) if self.store is None else self._stored(self.store, *key)
        if self.store is None or len(self.kept) < MOST_IN_MEMORY:
            self.kept[key] = view
        return view

    def _stored(self, store: Store, index: int, frame: Frame, mirrored: bool) -> View:
        """A view from disk, made and kept there where there is none."""
        if index not in self.digests:
            self.digests[index] = store.digest(self.images[index])
        digest = self.digests[index]
        view = store.read(digest, frame, mirrored)
        if view is None:
            view = self._encode(index, frame, mirrored)
            store.write(digest, frame, mirrored, view)
        return view

    @torch.no_grad()
    def _encode(self, index: int, frame: Frame, mirrored: bool) -> View:
        image = self.images[index]
        picture = read_picture(image.path)
        pixels = pixels_of(frame.of(picture))
        if mirrored:
            pixels = pixels.flip(-1)
        latents = self.base.encode(pixels[None])[0].float().cpu()
        mask = None
        if image.mask is not None:
            mask = pixels_of(frame.of(read_mask(image.mask, image.path)))
            if mirrored:
                mask = mask.flip(-1)
            mask = functional.adaptive_avg_pool2d(mask, (latents.shape[1], latents.shape[2]))
            if mask.max() == 0:  # the cut missed the subject: the whole cut counts
                mask = None
        framing = Framing(
            (picture.height, picture.width),
            frame.corner(picture.size, mirrored),
            (frame.size[1], frame.size[0]),
        )
        return View(latents, mask, framing)


def _within(share: float, limits: tuple[float, float]) -> float:
    least, most = limits
    return least + share * (most - least)
