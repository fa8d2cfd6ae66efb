"""What second passes do to a picture: regions act on, tiles agree, small regions are refined."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.concept import Concept
from toolkit.concept.stored import ED_LORA
from toolkit.layout.layout import Layout, Region
from toolkit.layout.tiles import Tile, tiles_of
from toolkit.methods import KINDS, Method
from toolkit.methods.lora_composer import BALANCED
from toolkit.sampling import Step
from toolkit.second.crops import crops_of
from toolkit.second.further import make_ready, run_to_end, take_further
from toolkit.second.plan import SecondPasses
from toolkit.second.resizing import resized
from toolkit.second.tiled import Tiled

OWN = (128, 128)
_LORAS = [name for name, kind in KINDS.items() if kind.keeps_regions and kind.recipe == ED_LORA]
LAYOUT = Layout(
    "pair",
    "a dog and a cat",
    256,
    128,
    (
        Region("dog", "<dog>, sitting", (0.1, 0.2, 0.3, 0.6)),
        Region("cat", "<cat>, sitting", (0.5, 0.0, 1.0, 1.0)),
    ),
)
TWICE = SecondPasses(upscale=2, upscale_strength=0.5)
DETAIL = SecondPasses(detail=True, detail_strength=0.5)


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(3, 128, 256, generator=torch.Generator().manual_seed(1))


def run(
    base: Base,
    concepts: Mapping[str, Concept],
    picture: Tensor,
    plan: SecondPasses,
    layout: Layout = LAYOUT,
    method: Method = BALANCED,
    watch: Callable[[Step], None] = lambda step: None,
) -> Tensor:
    ready = make_ready(base, method, layout, concepts, plan, OWN)
    steps = take_further(base, method, ready, picture, 3, plan, OWN, 4, 4.0)
    return run_to_end(steps, watch).pixels


def weaker(layout: Layout, region: int) -> Layout:
    """The same with one region's concept at no strength."""
    regions = [
        replace(own, strength=0.0) if number == region else own
        for number, own in enumerate(layout.regions)
    ]
    return replace(layout, regions=tuple(regions))


def test_strength_0_only_resamples(
    tiny_base: Base, concepts: dict[str, Concept], picture: Tensor
) -> None:
    plan = replace(TWICE, upscale_strength=0.0)
    assert run(tiny_base, concepts, picture, plan).equal(resized(picture, 512, 256))


def test_a_larger_picture_is_denoised_with_each_region_under_its_own_concept(
    tiny_base: Base, concepts: dict[str, Concept], picture: Tensor
) -> None:
    seen: list[Step] = []
    made = run(tiny_base, concepts, picture, TWICE, watch=seen.append)
    assert made.shape == (3, 256, 512)
    assert [step.number for step in seen] == [2, 3]
    without = run(tiny_base, concepts, picture, TWICE, weaker(LAYOUT, 0))
    changed = (made - without).abs().mean(dim=0)
    inside = changed[51:154, 51:154]
    assert inside.mean() > 3 * changed[:, 256:].mean()


@pytest.mark.parametrize("name", _LORAS)
def test_every_method_with_regions_takes_pictures_further(
    name: str, tiny_base: Base, concepts: dict[str, Concept], picture: Tensor
) -> None:
    known = {**concepts, "dog_cat": concepts["dog"]}  # what mix_of_show would have fused
    both = replace(TWICE, detail=True)
    made = run(
        tiny_base, known, picture, replace(both, upscale=1.5, tile=128), method=KINDS[name]()
    )
    assert made.shape == (3, 192, 384)
    assert made.isfinite().all()


def test_one_tile_is_the_whole_canvas_and_several_hold_the_same_latents(
    tiny_base: Base, concepts: dict[str, Concept]
) -> None:
    prepared = BALANCED.prepare(tiny_base, LAYOUT, concepts)
    latents = torch.randn(1, 4, 16, 32, generator=torch.Generator().manual_seed(0))
    whole = BALANCED.again(tiny_base, [prepared], 4.0)
    timestep = torch.tensor(500)

    def predicted(tiles: list[Tile]) -> Tensor:
        tiled = Tiled(tiny_base, BALANCED, prepared, tiles, 4.0)
        with torch.no_grad():
            return tiled.predict(latents, 2, timestep)

    with torch.no_grad():
        expected = whole.predict(latents, 2, timestep)
    assert predicted(tiles_of(256, 128, 256, 64)).equal(expected)
    several = predicted(tiles_of(256, 128, 128, 64))
    together = torch.stack([several.flatten(), expected.flatten()])
    assert 0.8 < together.corrcoef()[0, 1] < 0.999


def test_a_regions_concept_does_not_reach_tiles_that_it_is_not_in(
    tiny_base: Base, concepts: dict[str, Concept], picture: Tensor
) -> None:
    tiled = replace(TWICE, tile=128)
    made = run(tiny_base, concepts, picture, tiled)
    without = run(tiny_base, concepts, picture, tiled, weaker(LAYOUT, 0))
    assert not made.equal(without)
    far = slice(400, 512)  # two steps, a tile and its neighbour at each, and the decoder
    assert made[..., far].equal(without[..., far])


def test_only_small_regions_are_refined_each_in_its_place(
    tiny_base: Base, concepts: dict[str, Concept], picture: Tensor
) -> None:
    (crop,) = crops_of(LAYOUT, OWN)
    assert crop.region == 0
    left, top, right, bottom = crop.box
    assert right - left == bottom - top < 128
    made = run(tiny_base, concepts, picture, DETAIL)
    changed = (made - picture).abs().amax(dim=0) > 0
    assert changed[26:76, 26:76].all()
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_a_region_is_refined_by_its_own_concept_alone(
    tiny_base: Base, concepts: dict[str, Concept], picture: Tensor
) -> None:
    made = run(tiny_base, concepts, picture, DETAIL)
    others = {**concepts, "cat": concepts["fox"]}
    assert run(tiny_base, others, picture, DETAIL).equal(made)
    own = {**concepts, "dog": concepts["fox"]}
    other_word = replace(LAYOUT.regions[0], concept="dog")
    again = replace(LAYOUT, regions=(other_word, LAYOUT.regions[1]))
    assert not run(tiny_base, own, picture, DETAIL, again).equal(made)
    assert not run(tiny_base, concepts, picture, DETAIL, weaker(LAYOUT, 0)).equal(made)


def test_where_small_regions_overlap_the_nearest_has_the_place(
    tiny_base: Base, concepts: dict[str, Concept], picture: Tensor
) -> None:
    front = Region("dog", "<dog>", (0.1, 0.2, 0.3, 0.6))
    behind = Region("cat", "<cat>", (0.2, 0.2, 0.4, 0.6), depth=1.0)
    layout = replace(LAYOUT, regions=(front, behind))
    both = run(tiny_base, concepts, picture, DETAIL, layout)
    alone = run(tiny_base, concepts, picture, DETAIL, replace(layout, regions=(front,)))
    assert both[:, 32:72, 32:48].equal(alone[:, 32:72, 32:48])
    swapped = replace(layout, regions=(replace(front, depth=2.0), behind))
    assert not run(tiny_base, concepts, picture, DETAIL, swapped)[:, 32:72, 56:72].equal(
        both[:, 32:72, 56:72]
    )
