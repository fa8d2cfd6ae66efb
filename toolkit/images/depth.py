"""Pictures of 16 or 32 bits and of floats, brought to 8 bits by what they hold."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.errors import InputError

_FULL_SCALES = (1, 255, 1023, 4095, 65535)  # floats and labels, 8, 10, 12 and 16 bits
_TOO_DARK = 1 / 16  # below this share of full scale a picture would be as good as black


def is_deep(image: Image.Image) -> bool:
    """Whether a picture holds more than 8 bits a channel; Pillow has such modes for gray only."""
    return image.mode[0] in "IF"


def eight_bits(image: Image.Image) -> Image.Image:
    """A gray picture of any depth as 8-bit gray; what its PNG calls transparent becomes white.

    Raises InputError, in words that go after the file's name, for values that are no brightness.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("it holds values that are not finite numbers")
    if values.min(initial=0) < 0:
        raise InputError(
            f"its values go from {values.min():g} to {values.max():g}: save it with values of 0 "
            "and above, or as 8 bits"
        )
    gray = np.rint(values / _full_scale(values) * 255).clip(0, 255).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        gray[values == clear] = 255
    return Image.fromarray(gray)


def check_high_bytes(image: Image.Image) -> None:
    """Raise InputError for the upper bytes of 16-bit colours that use the lower 12 bits only."""
    largest = int(np.asarray(image.convert("RGB")).max())
    if 0 < largest < 255 * _TOO_DARK:
        raise InputError(
            "its 16-bit colours use only the lower 12 bits, so it would be as good as black: save "
            "it as 8 bits"
        )


def _full_scale(values: npt.NDArray[np.float64]) -> float:
    """The value that is white: the least usual one that nothing in the picture passes.

    Where that would make a picture as good as black, or no usual one is large enough, it is the
    picture's own largest value.
    """
    largest = float(values.max(initial=0))
    usual = next((full for full in _FULL_SCALES if full >= largest), None)
    if usual is None or 0 < largest < usual * _TOO_DARK:
        return largest
    return usual
