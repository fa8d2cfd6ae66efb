"""Regions that masks and polygons draw act where they were drawn, and a box as it always did."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_layouts import PAIR

from toolkit.backbones import Base
from toolkit.backbones.unet.isolation import blocked_counts, isolation
from toolkit.batch.journal import Item, recipe_of
from toolkit.concept import Concept
from toolkit.layout.areas import areas_of, cells_of_areas
from toolkit.layout.cells import Cells
from toolkit.layout.layout import Layout, Point, Region
from toolkit.methods import Method
from toolkit.methods.checks import check
from toolkit.methods.lora_composer import BALANCED, PUBLISHED
from toolkit.methods.places import places_of
from toolkit.methods.regional_tokens import RegionalTokens
from toolkit.methods.reinitialisation import best_window, move_noise
from toolkit.sampling import compose

METHODS = (PUBLISHED, BALANCED, RegionalTokens())
DOG, CAT = (0.0625, 0.125, 0.4375, 0.875), (0.5, 0.25, 0.9375, 0.875)
BOXES = replace(
    PAIR,
    regions=(replace(PAIR.regions[0], box=DOG), replace(PAIR.regions[1], box=CAT)),
)


def sample(base: Base, concepts: dict[str, Concept], method: Method, layout: Layout):
    return compose(base, method, [method.prepare(base, layout, concepts)], [3], 2)[0]


def drawn(layout: Layout, folder: Path) -> Layout:
    """The same boxes as mask files."""
    regions = []
    for number, region in enumerate(layout.regions):
        assert region.box
        mask = np.zeros((layout.height, layout.width), dtype=np.uint8)
        x0, y0, x1, y1 = (
            round(value * side)
            for value, side in zip(region.box, (layout.width, layout.height) * 2, strict=True)
        )
        mask[y0:y1, x0:x1] = 255
        Image.fromarray(mask).save(folder / f"{number}.png")
        regions.append(replace(region, box=None, mask=folder / f"{number}.png"))
    return replace(layout, regions=tuple(regions))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_rectangle_is_the_box_to_the_bit(
    method: Method, reference_base: Base, concepts: dict[str, Concept], tmp_path: Path
) -> None:
    boxes = sample(reference_base, concepts, method, BOXES)
    assert torch.equal(sample(reference_base, concepts, method, drawn(BOXES, tmp_path)), boxes)
    softer = tuple(replace(region, feather=0.01) for region in BOXES.regions)
    soft = sample(reference_base, concepts, method, replace(BOXES, regions=softer))
    assert torch.equal(soft, boxes)  # a hundredth of the side is less than half a cell
    softer = tuple(replace(region, feather=0.4) for region in BOXES.regions)
    assert not torch.equal(
        sample(reference_base, concepts, method, replace(BOXES, regions=softer)), boxes
    )


ISLANDS: tuple[Point, ...] = (
    (0.1, 0.1), (0.2, 0.1), (0.2, 0.9), (0.3, 0.9), (0.3, 0.1), (0.4, 0.1), (0.4, 1.0), (0.1, 1.0),
)  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_soft_concave_region_and_one_behind_it_are_made(
    method: Method, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    own = replace(BOXES.regions[0], box=None, polygon=ISLANDS, feather=0.1)
    layout = replace(BOXES, regions=(own, replace(BOXES.regions[1], depth=1)))
    (ready,) = method.prepare(reference_base, layout, concepts)
    size = reference_base.latent_size(layout.width, layout.height)
    (held, _) = cells_of_areas(areas_of(layout.regions), *size)
    assert held is not None and held.held is not None
    assert [one.area for one in ready.regions] == list(areas_of(layout.regions))
    assert sample(reference_base, concepts, method, layout).isfinite().all()


def test_of_overlapping_regions_the_nearer_one_acts(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    dog, cat = (replace(region, box=(0.1, 0.1, 0.9, 0.9)) for region in BOXES.regions)
    aside = replace(dog, box=(0.0, 0.0, 0.9, 0.9), depth=1)
    plain = RegionalTokens()

    def made(*regions: Region) -> torch.Tensor:
        return sample(reference_base, concepts, plain, replace(BOXES, regions=regions))

    assert torch.equal(made(aside, cat), made(aside, replace(cat, depth=0.5)))
    assert not torch.equal(made(aside, cat), made(replace(aside, depth=0), cat))

    def both_hold(*regions: Region) -> bool:
        prepared = plain.prepare(reference_base, replace(BOXES, regions=regions), concepts)
        first, second = places_of(reference_base, prepared, 0.2, True).mask[0]
        return bool((first * second).any())

    assert not both_hold(aside, cat) and both_hold(replace(aside, depth=0), cat)


def test_the_losses_look_at_the_masks_own_cells(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    own = replace(BOXES.regions[0], box=None, polygon=ISLANDS)
    prepared = PUBLISHED.prepare(reference_base, replace(BOXES, regions=(own,)), concepts)
    places = places_of(reference_base, prepared, 0.5, True)
    ((cells,),) = places.cells
    held = places.mask[0, 0] > 0
    assert held.nonzero().tolist() == [list(cell) for cell in cells]
    assert int(places.top.counts) == len(cells) // 2
    assert (places.weight[0, 0] > 0).equal(held) and places.weight[0, 0].max() <= 1
    leaks = places.leaks[0, 0]
    assert int(leaks.sum()) == len(cells) * (held.numel() - len(cells))


def test_isolation_follows_the_shape() -> None:
    corner = Cells(0, 2, 0, 2, bytes((1, 0, 1, 1)))
    box = Cells(1, 3, 2, 4)
    blocked = blocked_counts([corner, box], 3, 5, torch.device("cpu"))
    assert blocked[1].sum() == 0  # the cell that the mask leaves out is background
    assert blocked[0].nonzero()[:, 0].tolist() == [7, 8, 12, 13]
    groups = isolation([corner, box], 3, 5, torch.device("cpu"))
    assert groups is not None
    assert groups.groups[0].queries.tolist() == [1, 2, 3, 4, 9, 10, 11, 14]


def test_noise_is_moved_in_the_masks_shape() -> None:
    place = Cells(2, 4, 2, 4, bytes((1, 0, 0, 1)))
    response = torch.zeros(5, 5)
    response[0, 0] = response[1, 1] = 1.0
    response[0, 3] = response[1, 3] = 1.5  # the largest sum of a square, not of the shape
    assert best_window(response, place) == (0, 0)
    assert best_window(response, Cells(2, 4, 2, 4)) == (0, 2)
    noise = torch.arange(100.0).view(1, 10, 10)
    moved = move_noise(noise, [response], [place], 2)
    assert torch.equal(moved[0, 4:6, 4:6], noise[0, 0:2, 0:2])
    assert torch.equal(moved[0, 6:8, 6:8], noise[0, 2:4, 2:4])
    assert torch.equal(moved[0, 4:6, 6:8], noise[0, 4:6, 6:8])


def test_a_mask_that_changes_makes_its_picture_stale(reference_base: Base, tmp_path: Path) -> None:
    layout = drawn(BOXES, tmp_path)
    files = {name: tmp_path / "concept" for name in layout.concepts}
    (tmp_path / "concept").write_bytes(b"a concept")

    def inputs(layout: Layout) -> dict:
        made = recipe_of(reference_base.identity, [layout], files, PUBLISHED, 2, 7.5, {})
        return made.inputs(Item(layout, 0))

    before = inputs(layout)
    assert set(before["masks"]) == {str(region.mask) for region in layout.regions}
    assert inputs(layout) == before and "masks" not in inputs(BOXES)
    drawn(replace(BOXES, regions=BOXES.regions[::-1]), tmp_path)
    assert inputs(layout) != before


def test_regions_that_touch_are_told(reference_base: Base, concepts: dict[str, Concept]) -> None:
    def remarks(*corners: Point) -> list[str]:
        dog = replace(BOXES.regions[0], box=None, polygon=corners)
        layout = replace(BOXES, regions=(dog, BOXES.regions[1]))
        return check(layout, reference_base, concepts, PUBLISHED)

    # both polygons have one bounding box; the second keeps away from the cat below it
    assert "the regions of dog and cat" in remarks((0, 0), (0.7, 0), (0.7, 0.4), (0, 0.4))[0]
    assert not remarks((0, 0), (0.7, 0), (0.0, 0.4))
