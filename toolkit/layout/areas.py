"""What of the canvas each region holds, and which cells of a feature map that is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.layout.cells import Cells, cells_of
from toolkit.layout.layout import Box, Layout, Region
from toolkit.layout.rasters import Raster, raster_of_mask, raster_of_polygon
from toolkit.layout.tiles import Tile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Area:
    """A part of the canvas.

    bounds: its bounding box. raster: what of that it holds; None: all of it.
    feather, depth: as in `Region`. tile: the part of the canvas that maps show; None: all of it.
    """

    bounds: Box
    raster: Raster | None = None
    feather: float = 0.0
    depth: float = 0.0
    tile: Tile | None = None


def area_of(region: Region) -> Area:
    """What a region holds. Raises InputError when its mask cannot be read."""
    if region.box:
        return Area(region.box, None, region.feather, region.depth)
    if region.polygon:
        across, down = zip(*region.polygon, strict=True)
        bounds = (min(across), min(down), max(across), max(down))
        return Area(bounds, raster_of_polygon(region.polygon), region.feather, region.depth)
    assert region.mask is not None
    raster = raster_of_mask(region.mask)
    return Area(raster.bounds, raster, region.feather, region.depth)


def bounds_of(region: Region) -> Box:
    """The bounding box of a region: a box is its own."""
    return region.box or area_of(region).bounds


def check_areas(layout: Layout) -> None:
    """Raise InputError, at its region, for a mask that is none or not of the canvas's shape."""
    for number, region in enumerate(layout.regions):
        if region.mask is None:
            continue
        place = f"regions[{number}].mask"
        try:
            raster = raster_of_mask(region.mask)
        except InputError as error:
            raise InputError(f"region {number + 1}: mask {error}", place) from error
        if not raster.has_shape_of(layout.width, layout.height):
            raise InputError(
                f"region {number + 1}: mask {region.mask} is {raster.columns} x {raster.rows} "
                f"pixels, and the canvas {layout.width} x {layout.height}: draw it in the canvas's "
                "shape",
                place,
            )


@lru_cache(maxsize=1024)
def own_cells(area: Area, rows: int, columns: int) -> Cells | None:
    """The cells of a `rows` x `columns` map in `area`, whatever stands in front of it.

    Those are the whole cells of its bounding box of which it covers half or more: all of them for
    a box. None where there are none. In a tile they are those of the canvas's map that it shows.
    """
    if area.tile is not None:
        whole = own_cells(replace(area, tile=None), *area.tile.of_canvas(rows, columns))
        shown = area.tile.within(rows, columns)
        return whole and _cells_from(as_array(whole, *area.tile.of_canvas(rows, columns))[shown])
    bounding = cells_of(area.bounds, rows, columns)
    if bounding is None or area.raster is None:
        return bounding
    inside = as_array(bounding, rows, columns)
    return _cells_from(inside & area.raster.half_covered(rows, columns))


@lru_cache(maxsize=1024)
def cells_of_areas(areas: tuple[Area, ...], rows: int, columns: int) -> tuple[Cells | None, ...]:
    """The cells of each area that no area of less depth holds."""
    own = [own_cells(area, rows, columns) for area in areas]
    found = []
    for area, cells in zip(areas, own, strict=True):
        nearer = [o for a, o in zip(areas, own, strict=True) if a.depth < area.depth and o]
        if cells is not None and nearer:
            inside = as_array(cells, rows, columns)
            for other in nearer:
                inside &= ~as_array(other, rows, columns)
            cells = _cells_from(inside)
        found.append(cells)
    return tuple(found)


def as_array(cells: Cells, rows: int, columns: int) -> "NDArray[np.bool_]":
    """(rows, columns), true where the cells are held."""
    import numpy as np

    inside = np.zeros((rows, columns), dtype=bool)
    bounding = inside[cells.top : cells.bottom, cells.left : cells.right]
    if cells.held is None:
        bounding[:] = True
    else:
        bounding[:] = np.frombuffer(cells.held, dtype=bool).reshape(bounding.shape)
    return inside


def _cells_from(inside: "NDArray[np.bool_]") -> Cells | None:
    import numpy as np

    if not inside.any():
        return None
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    cut = inside[top:bottom, left:right]
    held = None if cut.all() else cut.tobytes()
    return Cells(int(top), int(bottom), int(left), int(right), held)


def areas_of(regions: Sequence[Region]) -> tuple[Area, ...]:
    """What each of the regions holds."""
    return tuple(area_of(region) for region in regions)
