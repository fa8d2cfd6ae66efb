"""What masks and polygons hold: which cells, how much of them, and what is wrong with a mask."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.errors import InputError
from toolkit.layout.areas import Area, area_of, as_array, bounds_of, cells_of_areas, own_cells
from toolkit.layout.cells import cells_of
from toolkit.layout.files import read_layouts, read_lines
from toolkit.layout.layout import Box, Layout, Region
from toolkit.layout.mapping import layout_from_mapping, layout_to_mapping
from toolkit.layout.masks import area_masks, edge_mask, shares

GRIDS = ((4, 8), (8, 16), (16, 32), (5, 9))


def draw(path: Path, *boxes: Box, size: tuple[int, int] = (256, 128)) -> Path:
    """A black mask with white boxes."""
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[
            round(y0 * size[1]) : round(y1 * size[1]), round(x0 * size[0]) : round(x1 * size[0])
        ] = 255
    Image.fromarray(mask).save(path)
    return path


def masked(path: Path, **more: float) -> Area:
    return area_of(Region("dog", "<dog>", mask=path, **more))  # type: ignore[arg-type]


def polygon(*corners: tuple[float, float]) -> Area:
    return area_of(Region("dog", "<dog>", polygon=corners))


@pytest.mark.parametrize(
    "box", [(0.125, 0.25, 0.5, 0.875), (0.0, 0.0, 1.0, 1.0), (0.5, 0.1, 0.9, 0.9)]
)
@pytest.mark.parametrize("size", [(256, 128), (640, 320), (40, 20)])
def test_a_rectangle_drawn_in_any_way_holds_the_boxs_cells(
    box: Box, size: tuple[int, int], tmp_path: Path
) -> None:
    x0, y0, x1, y1 = box
    area = masked(draw(tmp_path / "mask.png", box, size=size))
    if all(value * side == round(value * side) for value, side in zip(box, size * 2, strict=True)):
        assert area.bounds == box
        for grid in GRIDS:
            assert own_cells(area, *grid) == cells_of(box, *grid)
    drawn = polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    for grid in GRIDS:
        assert own_cells(drawn, *grid) == cells_of(box, *grid)


def test_a_cell_is_in_a_mask_that_covers_half_of_it(tmp_path: Path) -> None:
    mask = np.zeros((40, 80), dtype=np.uint8)
    mask[10:30, 10:30] = 255
    mask[10:20, 20:30] = 0  # one cell of four is left out ...
    mask[15:20, 20:30] = 255  # ... and comes back by its half
    mask[20:24, 30:40] = 255  # less than half of a cell
    Image.fromarray(mask).save(tmp_path / "mask.png")
    cells = own_cells(masked(tmp_path / "mask.png"), 4, 8)
    assert cells is not None and list(cells) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_mask_may_have_two_islands(tmp_path: Path) -> None:
    islands = (0.125, 0.25, 0.25, 0.5), (0.5, 0.5, 0.75, 0.75)
    area = masked(draw(tmp_path / "mask.png", *islands))
    assert area.bounds == (0.125, 0.25, 0.75, 0.75)
    cells = own_cells(area, 8, 16)
    both = [cells_of(island, 8, 16) for island in islands]
    assert cells is not None and list(cells) == [cell for own in both if own for cell in own]
    assert len(cells) == 4 + 8


def test_a_polygon_may_be_concave() -> None:
    left_open = (1, 0.25), (0.25, 0.25), (0.25, 0.75), (1, 0.75)
    cells = own_cells(polygon((0, 0), (1, 0), *left_open, (1, 1), (0, 1)), 8, 8)
    assert cells is not None and not as_array(cells, 8, 8)[2:6, 2:].any()
    assert len(cells) == 64 - 4 * 6
    triangle = Region("dog", "<dog>", polygon=((0.1, 0.2), (0.9, 0.2), (0.5, 0.7)))
    assert bounds_of(triangle) == (0.1, 0.2, 0.9, 0.7)


def test_the_nearer_of_two_regions_has_the_place_where_they_overlap() -> None:
    back, front = Area((0.0, 0.0, 0.75, 1.0), depth=1), Area((0.5, 0.0, 1.0, 1.0))
    behind, before = cells_of_areas((back, front), 4, 8)
    assert behind == cells_of((0.0, 0.0, 0.5, 1.0), 4, 8)
    assert before == cells_of(front.bounds, 4, 8)
    assert area_masks((back, front), 4, 8).sum(dim=0).max() == 1
    canvas, of_back, of_front = shares((back, front), 4, 8)
    assert not canvas.any() and (of_front[:, 4:] == 1).all() and (of_back[:, :4] == 1).all()


def test_regions_of_one_depth_share_the_place_where_they_overlap() -> None:
    both = Area((0.0, 0.0, 0.75, 1.0), depth=2), Area((0.5, 0.0, 1.0, 1.0), depth=2)
    assert cells_of_areas(both, 4, 8) == tuple(cells_of(area.bounds, 4, 8) for area in both)
    canvas, first, second = shares(both, 4, 8)
    assert (first[:, 4:6] == 0.5).all() and (second[:, 4:6] == 0.5).all() and not canvas.any()


def test_a_region_that_others_hide_holds_nothing() -> None:
    assert (
        cells_of_areas((Area((0.25, 0.25, 0.5, 0.5), depth=1), Area((0, 0, 1, 1))), 8, 8)[0] is None
    )


def test_a_feather_rises_from_the_edge_inwards_and_not_from_the_canvass_border() -> None:
    area = Area((0.0, 0.0, 0.5, 1.0), feather=0.5)  # four cells of the eight high canvas
    soft = edge_mask(area, 8, 16)
    assert (soft[:, 8:] == 0).all() and (soft[:, :4] == 1).all()
    assert soft[3, 4:8].tolist() == [0.875, 0.625, 0.375, 0.125]
    canvas, own = shares([area], 8, 16)
    assert torch.equal(canvas, 1 - soft) and torch.equal(own, soft)


def test_a_feather_of_half_a_cell_changes_nothing() -> None:
    box = (0.25, 0.25, 0.75, 0.75)
    hard = shares([Area(box)], 8, 8)
    assert torch.equal(shares([Area(box, feather=0.0)], 8, 8), hard)
    assert torch.equal(shares([Area(box, feather=0.5 / 8)], 8, 8), hard)


def test_what_a_soft_edge_leaves_is_the_next_regions() -> None:
    front, back = Area((0.0, 0.0, 0.5, 1.0), feather=0.5), Area((0, 0, 1, 1), depth=1)
    canvas, of_front, of_back = shares((front, back), 8, 16)
    assert not canvas.any() and torch.allclose(of_front + of_back, torch.ones(8, 16))
    assert of_back[0, 7] == 0.875 and of_front[0, 7] == 0.125


def content(**place: object) -> dict:
    region = {"concept": "dog", "prompt": "<dog>"} | place
    return {"name": "one", "prompt": "a dog", "width": 256, "height": 128, "regions": [region]}


@pytest.mark.parametrize(
    "place",
    [
        {"mask": "m.png"},
        {"polygon": [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]], "feather": 0.1, "depth": -1.0},
        {"box": [0.1, 0.1, 0.5, 0.5], "depth": 2.0},
    ],
)
def test_every_place_survives_being_written_and_read(place: dict) -> None:
    layout = layout_from_mapping(content(**place), "here")
    written = layout_to_mapping(layout)
    assert layout_from_mapping(written, "again") == layout
    assert place.items() <= written["regions"][0].items()


def test_a_box_is_written_as_it_was_before_there_were_masks() -> None:
    layout = layout_from_mapping(content(box=[0, 0, 1, 1], depth=0, feather=0), "here")
    assert list(layout_to_mapping(layout)["regions"][0]) == [
        "concept", "prompt", "negative_prompt", "strength", "box",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "path", "message"),
    [
        ({}, "box", "has no place: give one of box, mask and polygon"),
        ({"box": [0, 0, 1, 1], "mask": "m.png"}, "mask", "has box and mask: give one"),
        ({"polygon": [[0, 0], [1, 1]]}, "polygon", "needs three corners or more"),
        ({"polygon": [[0, 0.5], [1, 0.5], [0.5, 0.5]]}, "polygon", "that hold an area"),
        ({"polygon": [[0, 0], [1, 0], [1, 1.5]]}, "polygon", "needs corners in 0..1"),
        ({"polygon": [[0, 0], [1, 0], [1]]}, "polygon", r"a list of points, \[\[x, y\]"),
        ({"polygon": [0, 0, 1, 1]}, "polygon", r"a list of points, \[\[x, y\]"),
        ({"box": [0, 0, 1, 1], "feather": -0.1}, "feather", "needs 0 <= feather <= 1"),
        ({"box": [0, 0, 1, 1], "depth": "front"}, "depth", "expected a number"),
        ({"mask": 3}, "mask", "expected a path"),
    ],
)
def test_what_is_wrong_with_a_place_is_said(place: dict, path: str, message: str) -> None:
    with pytest.raises(InputError, match=f"region 1: .*{message}") as caught:
        layout_from_mapping(content(**place), "here")
    assert caught.value.path == f"regions[0].{path}"


def coloured(path: Path) -> None:
    Image.new("RGB", (256, 128), (255, 200, 0)).save(path)


def coloured_and_opaque(path: Path) -> None:
    Image.new("RGBA", (256, 128), (255, 200, 0, 255)).save(path)


WRONG = {
    "missing": (lambda path: None, "cannot be read: No such file"),
    "empty": (lambda path: path.write_bytes(b""), "mask.png"),
    "black": (lambda path: Image.new("L", (256, 128)).save(path), "nothing is white"),
    "other shape": (
        lambda path: Image.new("L", (128, 128), 255).save(path),
        "is 128 x 128 pixels, and the canvas 256 x 128: draw it in the canvas's shape",
    ),
    "coloured": (coloured, "has colours: save it as a grey image"),
    "coloured, opaque": (coloured_and_opaque, "has colours: save it as a grey image"),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_wrong_mask_gets_a_line(wrong: str, tmp_path: Path) -> None:
    spoil, message = WRONG[wrong]
    spoil(tmp_path / "mask.png")
    written = json.dumps(content(mask="mask.png"))
    (tmp_path / "one.yaml").write_text(written)
    (tmp_path / "many.jsonl").write_text(written + "\n" + json.dumps(content(box=[0, 0, 1, 1])))
    with pytest.raises(InputError, match=message) as caught:
        read_layouts([tmp_path / "one.yaml"])
    assert "\n" not in str(caught.value) and "layout one: region 1: mask" in str(caught.value)
    assert caught.value.path == "regions[0].mask"
    lines = read_lines(tmp_path / "many.jsonl")
    assert [rejected.line for rejected in lines.rejected] == [1] and list(lines.layouts) == [2]
    assert message in lines.rejected[0].error


def test_a_mask_is_found_beside_its_layout_and_may_have_any_size(tmp_path: Path) -> None:
    draw(tmp_path / "mask.png", (0.0, 0.0, 0.5, 1.0), size=(32, 16))
    (tmp_path / "one.yaml").write_text(json.dumps(content(mask="mask.png")))
    (layout,) = read_layouts([tmp_path / "one.yaml"])
    assert layout.regions[0].mask == tmp_path / "mask.png"
    assert bounds_of(layout.regions[0]) == (0.0, 0.0, 0.5, 1.0)


def test_a_mask_may_be_cut_out_by_its_alpha_channel(tmp_path: Path) -> None:
    image = Image.new("RGBA", (256, 128), (255, 200, 0, 255))
    image.putalpha(Image.open(draw(tmp_path / "alpha.png", (0.25, 0.0, 0.5, 1.0))))
    image.save(tmp_path / "mask.png")
    assert masked(tmp_path / "mask.png").bounds == (0.25, 0.0, 0.5, 1.0)


def test_a_mask_that_changes_is_read_again(tmp_path: Path) -> None:
    first = masked(draw(tmp_path / "mask.png", (0.0, 0.0, 0.5, 1.0)))
    second = masked(draw(tmp_path / "mask.png", (0.5, 0.0, 1.0, 0.5)))
    assert first.bounds == (0.0, 0.0, 0.5, 1.0) and second.bounds == (0.5, 0.0, 1.0, 0.5)


def test_a_base_says_which_regions_it_cannot_place(tmp_path: Path) -> None:
    from toolkit.backbones.sizes import Sizes

    sizes = Sizes(pixels_per_latent=8, size_multiple=64, guidance_downscale=2)
    draw(tmp_path / "dot.png", (0.5, 0.5, 0.52, 0.52))
    front = Region("cat", "<cat>", (0.0, 0.0, 1.0, 1.0), depth=-1)
    for region, message in (
        (Region("dog", "<dog>", mask=tmp_path / "dot.png"), "covers no cell of the 16 x 8"),
        (Region("dog", "<dog>", (0.5, 0.5, 0.52, 0.6)), "holds no whole cell of the 16 x 8"),
        (Region("dog", "<dog>", (0.2, 0.2, 0.8, 0.8)), "regions of less depth hold every cell"),
        (Region("dog", "<dog>", mask=tmp_path / "gone.png"), "gone.png .cannot be read"),
    ):
        layout = Layout("one", "a dog", 256, 128, (region, front))
        with pytest.raises(InputError, match=f"layout one.* region 1: .*{message}"):
            sizes.check_layout(layout, "base")
