"""Masks and polygons as points of the canvas that lie inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.layout.layout import Box, Point

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WHITE = 128
"""Of 255: a mask's pixel that is at least as bright is inside."""

_FINE = 512
"""Rows and columns of points at which a polygon is asked what it holds."""


@dataclass(frozen=True)
class Raster:
    """Which points of an even grid over the canvas lie inside.

    inside: a byte of 0 or 1 for each point, row by row; some are 1.
    """

    rows: int
    columns: int
    inside: bytes

    @property
    def bounds(self) -> Box:
        """The bounding box of the points inside, each as large as its share of the canvas."""
        import numpy as np

        inside = self._array()
        down, across = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        return (
            float(across[0]) / self.columns,
            float(down[0]) / self.rows,
            float(across[-1] + 1) / self.columns,
            float(down[-1] + 1) / self.rows,
        )

    def has_shape_of(self, width: int, height: int) -> bool:
        """Whether it has a canvas's ratio of sides, but for rounding to whole pixels."""
        from toolkit.images.pictures import same_shape

        return same_shape((self.columns, self.rows), (width, height))

    def half_covered(self, rows: int, columns: int) -> "NDArray[np.bool_]":
        """(rows, columns): whether half of a cell or more is inside."""
        import numpy as np
        from PIL import Image

        whole = Image.fromarray(self._array().astype(np.float32))
        covered = whole.resize((columns, rows), Image.Resampling.BOX)
        return np.asarray(covered) >= 0.5 - 1e-4  # sums of pixels are rounded

    def _array(self) -> "NDArray[np.bool_]":
        import numpy as np

        return np.frombuffer(self.inside, dtype=bool).reshape(self.rows, self.columns)


def raster_of_mask(path: Path) -> Raster:
    """The pixels of a mask file that are white, or of which its alpha channel says so.

    Raises InputError, naming the file, when it is missing, no picture, coloured, or has no white.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} (cannot be read: {error.strerror})") from error
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int, size: int) -> Raster:
    import numpy as np

    from toolkit.images.files import is_colourless
    from toolkit.images.pictures import read_mask

    mask = np.asarray(read_mask(path))
    if not is_colourless(path):
        raise InputError(f"{path} (has colours: save it as a grey image, white inside)")
    rows, columns = mask.shape
    return Raster(rows, columns, (mask >= _WHITE).tobytes())


@lru_cache(maxsize=256)
def raster_of_polygon(corners: Sequence[Point]) -> Raster:
    """The points that an odd number of the polygon's sides lie left of."""
    import numpy as np

    points = (np.arange(_FINE) + 0.5) / _FINE
    inside = np.zeros((_FINE, _FINE), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        crossed = (y0 > points) != (y1 > points)
        x = x0 + (points[crossed] - y0) * (x1 - x0) / (y1 - y0) if y0 != y1 else np.empty(0)
        inside[crossed] ^= points < x[:, None]
    return Raster(_FINE, _FINE, inside.tobytes())
