"""How large tiles are: as said, or as free memory holds them."""

import pytest

from toolkit.backbones import Base
from toolkit.layout.layout import Layout
from toolkit.second import upscaling
from toolkit.second.upscaling import tiles_for

LARGER = Layout("large", "grass", 1024, 512)


def sides(tiles: list[upscaling.Tile]) -> set[tuple[int, int]]:
    return {(tile.width, tile.height) for tile in tiles}


def test_tiles_are_as_large_as_free_memory_holds_and_no_smaller_than_the_base(
    reference_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, expected in (
        (reference_base.bytes_of_picture(1024, 512), (1024, 512)),
        (reference_base.bytes_of_picture(640, 512), (640, 512)),
        (reference_base.bytes_of_picture(640, 512) - 1, (576, 512)),
        (reference_base.bytes_of_picture(384, 384), (384, 384)),
        (0, (256, 256)),
    ):
        monkeypatch.setattr(upscaling, "free_memory", lambda base, free=free: free)
        assert sides(tiles_for(reference_base, LARGER, None, 256)) == {expected}


def test_tiles_are_as_large_as_is_said(reference_base: Base) -> None:
    assert sides(tiles_for(reference_base, LARGER, 448, 256)) == {(448, 448)}
    assert len(tiles_for(reference_base, LARGER, 1024, 256)) == 1
