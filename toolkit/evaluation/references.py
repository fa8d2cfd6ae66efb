"""What a concept looks like: its images, its subject cut out of them, and what is beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from toolkit.backbones import Base
from toolkit.concept.stored import images_in
from toolkit.config.lookup import images_of
from toolkit.images.pictures import read_mask, read_picture
from toolkit.images.tensors import image_of, pixels_of
from toolkit.layout.pixels import PixelBox
from toolkit.training.concept_folder import ConceptImage, read_concept_folder

_LEAST_EMPTY = 0.25  # of an image's shorter side: narrower strips beside the subject say nothing


@dataclass(frozen=True)
class Reference:
    """One image of a concept.

    subject: where the mask is white, in pixels; None without a mask.
    """

    image: Image.Image
    subject: PixelBox | None

    @property
    def portrait(self) -> Image.Image:
        """The subject cut out; the whole image without a mask."""
        return self.image if self.subject is None else self.image.crop(self.subject)

    @property
    def empty(self) -> Image.Image | None:
        """The largest square beside the subject; None where there is no room or no mask."""
        if self.subject is None:
            return None
        width, height = self.image.size
        left, top, right, bottom = self.subject
        strips = [
            (0, 0, left, height),
            (right, 0, width, height),
            (0, 0, width, top),
            (0, bottom, width, height),
        ]
        a, b, c, d = max(strips, key=lambda box: min(box[2] - box[0], box[3] - box[1]))
        side = min(c - a, d - b)
        if side < _LEAST_EMPTY * min(width, height):
            return None
        x, y = (a + c - side) // 2, (b + d - side) // 2
        return self.image.crop((x, y, x + side, y + side))


def read_references(concepts: Mapping[str, Path]) -> dict[str, tuple[Reference, ...]]:
    """References of every concept, by its file, which says where its images are.

    Raises InputError when a concept's images cannot be found or read.
    """
    return {
        name: tuple(
            _reference(image)
            for image in read_concept_folder(images_of(name, images_in(file)), name).images
        )
        for name, file in concepts.items()
    }


@torch.no_grad()
def as_drawn(reference: Reference, base: Base, side: int) -> Reference:
    """The reference as `base` could draw it at best: `side` pixels, through its autoencoder.

    A made picture is as soft as that, so likeness to a sharp one says little of whether the subject
    is there. A base without an autoencoder leaves the reference as it is.
    """
    if base.vae is None:
        return reference
    image, multiple = reference.image, base.pixels_per_latent
    scale = side / min(image.size)
    width, height = (max(1, round(length * scale / multiple)) * multiple for length in image.size)
    pixels = pixels_of(image.resize((width, height), Image.Resampling.LANCZOS))[None]
    (drawn,) = base.decode(base.encode(pixels))
    subject = reference.subject
    if subject is not None:
        x, y = width / image.width, height / image.height
        subject = (
            int(subject[0] * x),
            int(subject[1] * y),
            max(round(subject[2] * x), int(subject[0] * x) + 1),
            max(round(subject[3] * y), int(subject[1] * y) + 1),
        )
    return Reference(image_of(drawn), subject)


def _reference(image: ConceptImage) -> Reference:
    picture = read_picture(image.path)
    if image.mask is None:
        return Reference(picture, None)
    mask = read_mask(image.mask, image.path).point(lambda value: 255 * (value >= 128))
    return Reference(picture, mask.getbbox())
