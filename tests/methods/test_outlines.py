"""After the guided steps a region may become its subject's outline, and regions see each other."""

from dataclasses import replace

import pytest
import torch
from sample_layouts import PAIR

from toolkit.backbones import Base
from toolkit.concept import Concept
from toolkit.errors import InputError
from toolkit.layout.areas import Area, own_cells
from toolkit.layout.cells import Cells, cells_of
from toolkit.methods import LoraComposer, record_of
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.methods.outlines import outlined, presence_of
from toolkit.methods.refining import Refining
from toolkit.sampling import Step, denoise, initial_noise

STEPS = 8
GUIDED = replace(PUBLISHED, guidance_share=0.5)
"""The update at step 3 of 8 is the last."""


def made(
    base: Base, concepts: dict[str, Concept], method: LoraComposer
) -> tuple[Refining, list[Step]]:
    prepared = method.prepare(base, PAIR, concepts)
    process = Refining(base, prepared, method, STEPS, 7.5)
    noise = initial_noise(base, PAIR.width, PAIR.height, [3])
    return process, list(denoise(base, process, noise, STEPS))[1:]


def first_difference(one: list[Step], other: list[Step]) -> int:
    """The number of the first step whose latents differ."""
    return next(
        a.number for a, b in zip(one, other, strict=True) if not torch.equal(a.latents, b.latents)
    )


def test_presence_is_carried_to_cells_that_attend_to_the_same() -> None:
    attention = torch.tensor([[[0.5, 0.0, 0.0]], [[0.5, 0.0, 0.0]]])
    attends = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(presence_of(attention, attends), torch.tensor([[1.0, 0.8, 0.0]]))
    assert torch.equal(presence_of(attention, None), torch.tensor([[1.0, 0.0, 0.0]]))


def test_an_outline_holds_the_subject_and_nothing_outside_its_region() -> None:
    area, presence = Area((0.25, 0.0, 1.0, 1.0), feather=0.1, depth=2), torch.zeros(8, 8)
    presence[2:6, 0:5] = 1.0
    cells = cells_of(area.bounds, 8, 8)
    assert cells is not None
    found = outlined(area, cells, presence)
    assert own_cells(found, 8, 8) == Cells(2, 6, 2, 5)
    assert (found.feather, found.depth) == (0.1, 2)


def test_a_map_that_tells_nothing_leaves_the_region() -> None:
    area = Area((0.25, 0.25, 0.75, 0.75))
    for flat in (torch.zeros(8, 8), torch.ones(8, 8)):
        found = outlined(area, Cells(2, 6, 2, 6), flat)
        assert own_cells(found, 8, 8) == Cells(2, 6, 2, 6)


def test_regions_become_outlines_after_the_last_guided_step(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    _, plain = made(reference_base, concepts, GUIDED)
    process, refined = made(reference_base, concepts, replace(GUIDED, mask_refinement=True))
    assert [bool(step.guidance) for step in refined] == [True] * 4 + [False] * 4
    assert first_difference(plain, refined) == 3  # it is predicted under the outlines
    grid = reference_base.guidance_cells(PAIR.width, PAIR.height)
    for region, one in zip(PAIR.regions, process.conditionings[0].regions, strict=True):
        drawn, outline = cells_of(region.box, *grid), own_cells(one.area, *grid)  # type: ignore[arg-type]
        assert drawn is not None and outline is not None
        assert set(outline) < set(drawn)


def test_regions_see_each_other_after_a_share_of_the_steps(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    _, plain = made(reference_base, concepts, GUIDED)
    _, never = made(reference_base, concepts, replace(GUIDED, isolation_until=1.0))
    assert torch.equal(never[-1].latents, plain[-1].latents)
    process, late = made(reference_base, concepts, replace(GUIDED, isolation_until=0.75))
    assert first_difference(plain, late) == 6
    assert not process.regional.isolation and process.regional.injection
    _, open_all_along = made(reference_base, concepts, replace(GUIDED, isolation_until=0.0))
    assert first_difference(plain, open_all_along) == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"isolation_until": 1.5}, "isolation_until=1.5: expected a share of the steps, 0 to 1"),
        (
            dict.fromkeys(("enhancement", "fill_loss", "region_loss"), False)
            | {"mask_refinement": True},
            "mask_refinement takes the outline from the maps of the guided steps",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(keys: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        LoraComposer(**keys)
    assert caught.value.path == message.split("=")[0].split()[0]


def test_pictures_that_were_made_before_there_were_these_keys_are_not_made_again() -> None:
    kept = record_of(PUBLISHED)
    assert "mask_refinement" not in kept and "isolation_until" not in kept
    assert record_of(replace(PUBLISHED, mask_refinement=True))["mask_refinement"] is True
    assert record_of(replace(PUBLISHED, isolation_until=0.5))["isolation_until"] == 0.5
