"""Pictures and masks from files, upright and in the size that is asked for."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from toolkit.errors import InputError
from toolkit.images.depth import check_high_bytes, eight_bits, is_deep
from toolkit.images.files import Stored, open_image, orientation_of, told_of, turned

_WHOLE_ALPHA = {"RGBa": "RGBA", "La": "LA"}


def read_picture(path: Path) -> Image.Image:
    """The picture as RGB, upright (EXIF), with what is transparent on white.

    Raises InputError, naming the file, when it is damaged or no picture.
    """
    stored = open_image(path)
    with told_of(path):
        image = _eight_bits(stored, path)
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert(_WHOLE_ALPHA.get(image.mode, "RGBA")).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return turned(image.convert("RGB"), stored.orientation)


def read_mask(path: Path, picture: Path | None = None) -> Image.Image:
    """The mask as one channel: white where the subject is; a mask in the alpha channel counts too.

    picture: whose mask it is. The mask then comes in the picture's size; one that was drawn on the
    pixels as the picture's file stores them is turned with it.
    Raises InputError, naming the file, when it is damaged, nothing in it is white, or its shape is
    not the picture's.
    """
    stored = open_image(path)
    with told_of(path):
        mask = _eight_bits(stored, path)
        if mask.mode in ("RGBA", "LA", "PA") and np.asarray(mask.getchannel("A")).min() < 255:
            mask = mask.getchannel("A")
        mask = mask.convert("L")
    largest = int(np.asarray(mask).max())
    if largest < 128:
        raise InputError(
            f"{path} (a mask in which nothing is white: its largest value is {largest} of 255)"
        )
    if picture is None:
        return turned(mask, stored.orientation)
    return _laid_on(open_image(picture), mask, stored.orientation, path)


def turn_is_unsure(mask: Path, picture: Path) -> bool:
    """Whether a mask's size does not tell if it was drawn on the picture as it is to be seen."""
    if orientation_of(picture) == 1:
        return False
    seen, own = open_image(picture), open_image(mask)
    return seen.orientation != own.orientation and seen.image.size == seen.upright_size


def fit(
    image: Image.Image, width: int, height: int, place: tuple[float, float] = (0.5, 0.5)
) -> Image.Image:
    """Scale `image` to cover width x height pixels, and cut that out of it.

    place: where the cut lies along the side that is too long, 0 (left, top) to 1.
    """
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS, centering=place)


def _eight_bits(stored: Stored, path: Path) -> Image.Image:
    try:
        if is_deep(stored.image):
            return eight_bits(stored.image)
        if stored.high_bytes:
            check_high_bytes(stored.image)
    except InputError as error:
        raise InputError(f"{path} ({error})") from error
    return stored.image


def _laid_on(picture: Stored, mask: Image.Image, orientation: int, path: Path) -> Image.Image:
    """The mask over the upright picture: as it says itself, as it is, or turned as the picture."""
    size = picture.upright_size
    ways = [turned(mask, orientation), mask, turned(mask, picture.orientation)]
    for fits in (lambda way: way.size == size, lambda way: same_shape(way.size, size)):
        for way in filter(fits, ways):
            return way.resize(size)
    raise InputError(
        f"{path} (a mask of {mask.width} x {mask.height} pixels, where the picture is {size[0]} x "
        f"{size[1]}: draw it on that picture)"
    )


def same_shape(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes have one ratio, but for the rounding of a size to whole pixels."""
    (width, height), (other_width, other_height) = sorted((first, second))
    return (
        abs(width - other_width * height / other_height) < 1
        or abs(height - other_height * width / other_width) < 1
    )
