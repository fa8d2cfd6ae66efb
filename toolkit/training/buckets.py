"""Aspect buckets: the sizes that pictures of other shapes are trained in, and which takes which.

A bucket's area is the base's, but for one multiple on one side. An image that has a bucket's size
is left as it is; any other goes to the bucket that loses the least of it. Only one that would have
to be enlarged too much goes to a smaller size, the largest that it fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from toolkit.errors import InputError
from toolkit.training.frames import Frame

Size = tuple[int, int]
"""Width and height in pixels."""

MOST_RATIO = 4
"""No bucket is longer than so many times its short side."""
Span = tuple[int, int]


def bucket_sizes(base: Size, multiple: int) -> list[Size]:
    """Every size of about the base's area whose sides are multiples of `multiple`."""
    area = base[0] * base[1]
    side = area**0.5
    near = (side + multiple) / side
    most = int(side * MOST_RATIO**0.5 * near) // multiple + 1
    sides = [multiple * count for count in range(1, most + 1)]
    return [
        (width, height)
        for width in sides
        for height in sides
        if area / near <= width * height <= area * near
        and max(width, height) <= MOST_RATIO * min(width, height)
    ] or [base]


def bucket_of(image: Size, base: Size, multiple: int, max_upscale: float) -> Size:
    """The bucket for an image of this size.

    max_upscale: by how much an image may be enlarged, 1 for not at all.
    Raises InputError for an image that does not fill the smallest size that the base can be
    trained at.
    """
    sizes = bucket_sizes(base, multiple)
    if image in sizes:
        return image
    area = base[0] * base[1]
    filled = [size for size in sizes if enlarged(image, size) <= max_upscale]
    if filled:
        return min(filled, key=lambda size: (lost(image, size), abs(size[0] * size[1] - area)))
    width, height = (int(side * max_upscale) // multiple * multiple for side in image)
    if not width or not height:
        raise InputError(
            f"{image[0]} x {image[1]} pixels: too small for the base, which needs {multiple} at "
            f"least, enlarged by training.max_upscale={max_upscale:g} at most"
        )
    return min(width, MOST_RATIO * height), min(height, MOST_RATIO * width)


def enlarged(image: Size, size: Size) -> float:
    """By how much an image is scaled to cover a size."""
    return max(size[0] / image[0], size[1] / image[1])


def lost(image: Size, size: Size) -> float:
    """The share of an image that is cut off, 0 to 1."""
    return 1 - size[0] * size[1] / (image[0] * image[1] * enlarged(image, size) ** 2)


@dataclass(frozen=True)
class Subject:
    """Where the subject is, in pixels of its image: from and up to, across and down."""

    across: Span
    down: Span


def subject_in(mask: Image.Image) -> Subject:
    """Where a mask is white."""
    white = np.asarray(mask) >= 128
    (columns,), (rows,) = np.nonzero(white.any(axis=0)), np.nonzero(white.any(axis=1))
    return Subject((int(columns[0]), int(columns[-1]) + 1), (int(rows[0]), int(rows[-1]) + 1))


def frame_of(image: Size, size: Size, subject: Subject | None = None) -> tuple[Frame, bool]:
    """The cut of an image to a bucket, and whether all of the subject is in it.

    With a subject it lies in the middle of the cut, as far as the image's borders allow, and cuts
    that are made anew at each step keep it too.
    """
    if subject is None:
        return Frame(size), True
    scale = enlarged(image, size)
    (across, x, whole_across), (down, y, whole_down) = (
        _places(side * scale, cut, (span[0] * scale, span[1] * scale))
        for side, cut, span in zip(image, size, (subject.across, subject.down), strict=True)
    )
    return Frame(size, (x, y), across, down), whole_across and whole_down


def _places(
    side: float, cut: int, span: Sequence[float]
) -> tuple[tuple[float, float], float, bool]:
    """Where a cut may lie along a side, 0..1; where it shows a span best; whether it shows all."""
    room = side - cut
    if room < 1:
        return (0.0, 1.0), 0.5, True
    least, most = max(span[1] - cut, 0.0) / room, min(span[0], room) / room
    middle = min(max((span[0] + span[1] - cut) / 2 / room, 0.0), 1.0)
    if least > most:  # the subject is larger than the cut
        return (middle, middle), middle, False
    return (least, most), middle, True
