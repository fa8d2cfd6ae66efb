"""Tiles cover a canvas, and regions lie in them where they lie on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.layout.areas import Area, area_of
from toolkit.layout.layout import Region
from toolkit.layout.masks import area_masks, shares
from toolkit.layout.tiles import Tile, tiles_of


@pytest.mark.parametrize(
    ("canvas", "side", "multiple"),
    [((512, 256), 256, 64), ((1024, 768), 448, 64), ((640, 192), 128, 64), ((256, 256), 512, 64),
     ((2048, 1024), 992, 32)],
)  # fmt: skip
def test_tiles_cover_the_canvas_and_neighbours_overlap_by_a_quarter(
    canvas: tuple[int, int], side: int, multiple: int
) -> None:
    tiles = tiles_of(*canvas, side, multiple)
    covered = np.zeros((canvas[1], canvas[0]), dtype=int)
    for tile in tiles:
        assert not {tile.left, tile.top, tile.width, tile.height} - set(range(0, 4096, multiple))
        assert tile.width <= side and tile.height <= side
        covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert covered.min() == 1
    across = sorted({tile.left for tile in tiles})
    assert all(b - a <= 0.75 * side for a, b in zip(across, across[1:], strict=False))


def areas(folder: Path) -> list[Area]:
    mask = np.zeros((96, 192), dtype=np.uint8)
    mask[10:50, 100:180] = 255
    mask[60:80, 20:60] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    corners = ((0.1, 0.1), (0.6, 0.2), (0.3, 0.9))
    regions = (
        Region("dog", "<dog>", (0.3, 0.2, 0.8, 0.7), depth=1.0, feather=0.2),
        Region("cat", "<cat>", polygon=corners, feather=0.1),
        Region("fox", "<fox>", mask=folder / "mask.png"),
    )
    return [area_of(region) for region in regions]


@pytest.mark.parametrize("cell", [8, 16, 64])
def test_a_tile_shows_the_canvas_own_cells(cell: int, tmp_path: Path) -> None:
    whole = areas(tmp_path)
    size = (512, 1024)
    masks, shared = (of(whole, size[0] // cell, size[1] // cell) for of in (area_masks, shares))
    for tile in tiles_of(1024, 512, 320, 64):
        own = [replace(area, tile=tile) for area in whole]
        rows, columns = tile.height // cell, tile.width // cell
        shown = (..., *tile.within(rows, columns))
        assert area_masks(own, rows, columns).equal(masks[shown])
        assert shares(own, rows, columns).equal(shared[shown])


def test_a_region_beside_a_tile_holds_nothing_of_it() -> None:
    tile = Tile(128, 0, 128, 128, (256, 128))
    area = Area((0.0, 0.0, 0.4, 1.0), tile=tile)
    assert not area_masks([area], 16, 16).any()
