"""Image files of any still format that Pillow opens: upright, whole, and of a size that is meant.

Pillow's readers raise whatever their parsing meets; here that becomes one line with the file.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from toolkit.contents import PICTURE, content_of
from toolkit.errors import InputError

# Of these Pillow knows the name and cannot read a picture without programs that are seldom there,
# or they are films.
_NOT_STILL = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
_SEVERAL_VIEWS = {"MPO", "ICO", "ICNS", "CUR", "PSD"}  # other sizes or layers of one picture
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_TINT = 24  # by how much the channels of a gray pixel may differ after compression
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}
_HIGH_BYTES = re.compile(r";16[BLN]")  # in the name of the way in which Pillow unpacks pixels


@dataclass(frozen=True)
class Stored:
    """A picture as its file stores it.

    orientation: how EXIF says that it is to be seen, 1 to 8.
    high_bytes: its file holds 16 bits a channel, and these are the upper 8 of each.
    """

    image: Image.Image
    orientation: int
    high_bytes: bool

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as the picture is to be seen."""
        width, height = self.image.size
        return (height, width) if self.orientation >= 5 else (width, height)


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the formats that are read."""
    Image.init()
    return frozenset(
        suffix
        for suffix, format in Image.registered_extensions().items()
        if format in Image.OPEN and format not in _NOT_STILL
    )


def image_format(path: Path) -> str | None:
    """Pillow's name for the still format that a file begins as, whatever it is called; or None."""
    try:
        with _quietly(), Image.open(path) as image:
            return None if image.format in _NOT_STILL else image.format
    except Image.DecompressionBombError:
        return "an image"
    except Exception:
        return None


def frames_of(path: Path) -> int:
    """How many pictures a file holds one after another: an animation's, or a TIFF's pages."""
    try:
        with _quietly(), Image.open(path) as image:
            return 1 if image.format in _SEVERAL_VIEWS else int(getattr(image, "n_frames", 1))
    except Exception:
        return 1


def is_colourless(path: Path) -> bool:
    """Whether a picture is gray all over, or cut out by its alpha channel, as masks are."""
    try:
        image = open_image(path).image
        with told_of(path):
            clear = "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255)
            if image.mode[0] in "1LIF" or clear:
                return True
            pixels = np.asarray(image.convert("RGB")).astype(int)
    except InputError:
        return True
    return bool(np.ptp(pixels, axis=-1).max() <= _JPEG_TINT)


def orientation_of(path: Path) -> int:
    """How EXIF says that a picture is to be seen, 1 to 8; 1 for what cannot be read."""
    try:
        with _quietly(), Image.open(path) as image:
            return _orientation(image)
    except Exception:
        return 1


def open_image(path: Path) -> Stored:
    """The first picture of a file, whole.

    Raises InputError, naming the file, when it is damaged, no picture, or too large.
    """
    with told_of(path):
        try:
            return _opened(path)
        except ValueError:  # Pillow's answer to large text, such as a ComfyUI workflow
            texts_left_out = _without_texts(path)
            if texts_left_out is None:
                raise
            return _opened(texts_left_out)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """`image` as EXIF says that it is to be seen."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Make one line with the file's name of whatever Pillow raises inside."""
    try:
        with _quietly():
            yield
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        found = content_of(path)
        damaged = "a damaged picture, or of a kind that is not read"
        told = damaged if found is PICTURE else found or "not a picture"
        raise InputError(f"{path} ({told})") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise InputError(f"{path} (larger than {limit:.0f} megapixels: make it smaller)") from error
    except MemoryError as error:
        raise InputError(f"{path} (too large for the memory there is)") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} (cannot be read: {reason})") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Pillow's warnings, of large pictures and of damaged EXIF."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _opened(source: Path | io.BytesIO) -> Stored:
    with Image.open(source) as image:
        high_bytes = image.mode[0] not in "IF" and _HIGH_BYTES.search(str(image.tile)) is not None
        image.load()
        clear = image.info.get("transparency")
        if high_bytes and isinstance(clear, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in clear)
        return Stored(image, _orientation(image), high_bytes)


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # viewers show a picture with unreadable EXIF as it is stored
        return 1
    return orientation if orientation in _TURNS else 1


def _without_texts(path: Path) -> io.BytesIO | None:
    """A PNG file's content without its texts and colour profile; None for any other file."""
    content = path.read_bytes()
    if not content.startswith(_PNG):
        return None
    kept, place = [_PNG], len(_PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind not in _PNG_TEXTS:
            kept.append(content[place : place + length + 12])
        place += length + 12
    return io.BytesIO(b"".join(kept))
