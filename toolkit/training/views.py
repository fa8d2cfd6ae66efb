"""Images as latents, as training is shown them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.backbones import Base
from toolkit.images.pictures import read_mask, read_picture
from toolkit.images.tensors import pixels_of
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.frames import Frame


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
    """One image, encoded. latents: (channels, h, w). mask: (1, h, w), or None."""

    latents: Tensor
    mask: Tensor | None


class ImageViews:
    """Images as latents. Each is encoded once, unless every step cuts anew."""

    def __init__(self, base: Base, images: Sequence[ConceptImage], views: Views) -> None:
        self.base = base
        self.images = images
        self.views = views
        self.kept: dict[tuple[int, Frame, bool], View] = {}

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
        if key not in self.kept:
            self.kept[key] = self._encode(*key)
        return self.kept[key]

    @torch.no_grad()
    def _encode(self, index: int, frame: Frame, mirrored: bool) -> View:
        image = self.images[index]
        pixels = pixels_of(frame.of(read_picture(image.path)))
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
        return View(latents, mask)


def _within(share: float, limits: tuple[float, float]) -> float:
    least, most = limits
    return least + share * (most - least)
