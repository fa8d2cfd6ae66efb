"""What bounds a guidance update: where it acts, how far it goes, what it keeps."""

from dataclasses import replace

import pytest
import torch

from toolkit.backbones import Base
from toolkit.concept import Concept
from toolkit.layout.cells import Cells
from toolkit.layout.layout import Layout, Region
from toolkit.layout.masks import cell_mask
from toolkit.methods.guidance import refine
from toolkit.methods.lora_composer import BALANCED, LoraComposer
from toolkit.methods.objective import worst_first
from toolkit.methods.pace import Pace, start
from toolkit.methods.places import places_of
from toolkit.methods.update import limited, reach_of, with_statistics_of
from toolkit.sampling import initial_noise

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.25, 1.0, 0.75)
PAIR = Layout(
    name="pair",
    prompt="a dog and a cat",
    width=256,
    height=192,
    regions=(Region("dog", "<dog>", LEFT), Region("cat", "<cat>", RIGHT)),
)
IN_LEFT, IN_RIGHT = (slice(0, 24), slice(0, 16)), (slice(6, 18), slice(16, 32))
PUBLISHED_MOVES = LoraComposer(step_size=2000.0)  # the tiny base's gradients are small


def move(
    base: Base, concepts: dict[str, Concept], method: LoraComposer, *paces: Pace
) -> torch.Tensor:
    """(channels, h, w): how far one update moves the latents."""
    noise = initial_noise(base, 256, 192, [3])
    ready = method.prepare(base, PAIR, concepts)
    moved, _ = refine(
        base.passes(ready, method.regional),
        noise,
        torch.tensor(600),
        [0],
        places_of(base, ready, method.top_share, method.gaussian_weight),
        method,
        method.step_size,
        paces or [start(2, method)],
    )
    return (moved - noise)[0]


def switched(**parts: object) -> LoraComposer:
    return LoraComposer(step_size=2000.0, **parts)  # type: ignore[arg-type]


@pytest.fixture
def published(reference_base: Base, concepts: dict[str, Concept]) -> torch.Tensor:
    return move(reference_base, concepts, PUBLISHED_MOVES)


def test_an_update_in_regions_leaves_every_other_cell_to_the_bit(
    reference_base: Base, concepts: dict[str, Concept], published: torch.Tensor
) -> None:
    found = move(reference_base, concepts, switched(update_in_regions=True))
    outside = torch.ones(24, 32, dtype=torch.bool)
    for rows, columns in (IN_LEFT, IN_RIGHT):
        outside[rows, columns] = False
        assert torch.equal(found[:, rows, columns], published[:, rows, columns])
    assert (found[:, outside] == 0).all() and (published[:, outside] != 0).any()


def test_no_cell_goes_farther_than_the_limit_and_small_moves_stay(
    reference_base: Base, concepts: dict[str, Concept], published: torch.Tensor
) -> None:
    lengths = published.square().mean(dim=0).sqrt()
    deviation = initial_noise(reference_base, 256, 192, [3]).std()
    limit = float(lengths.median() / deviation)
    found = move(reference_base, concepts, switched(update_limit=limit))
    assert found.square().mean(dim=0).sqrt().max() <= limit * deviation * 1.0001
    short = lengths < 0.99 * lengths.median()
    assert torch.allclose(found[:, short], published[:, short], atol=1e-6)
    assert torch.cosine_similarity(found, published, dim=0).min() > 0.999


def test_what_moves_keeps_its_mean_and_deviation(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    parts = {"update_in_regions": True, "update_limit": 0.3}
    noise = initial_noise(reference_base, 256, 192, [3])[0]
    for kept in (False, True):
        method = switched(keep_statistics=kept, **parts)
        moved = noise + move(reference_base, concepts, method)
        changes = []
        for latents in (noise, moved):
            values = torch.cat([latents[:, r, c].flatten() for r, c in (IN_LEFT, IN_RIGHT)])
            changes.append(torch.stack([values.mean(), values.std()]))
        assert torch.allclose(changes[0], changes[1], atol=1e-5) is kept


def test_a_region_that_has_stopped_is_not_moved(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    method = BALANCED
    found = move(reference_base, concepts, method, Pace((1.0, 0.0), (9.0, 9.0)))
    (rows, columns), (other_rows, other_columns) = IN_LEFT, IN_RIGHT
    assert (found[:, other_rows, other_columns] == 0).all()
    assert (found[:, rows, columns] != 0).any()


def test_a_slower_region_goes_less_far(reference_base: Base, concepts: dict[str, Concept]) -> None:
    method = replace(BALANCED, update_limit=0.0, keep_statistics=False)
    full = move(reference_base, concepts, method)[:, *IN_LEFT]
    half = move(reference_base, concepts, method, Pace((0.5, 1.0), (9.0, 9.0)))[:, *IN_LEFT]
    assert half.norm() < 0.9 * full.norm()


def test_limited_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    moves, latents = (torch.randn(2, 4, 3, 5, generator=generator) for _ in range(2))
    found = limited(moves, latents, 0.9)
    for picture in range(2):
        most = 0.9 * float(latents[picture].std())
        for row in range(3):
            for column in range(5):
                own = moves[picture, :, row, column]
                length = float((own**2).mean()) ** 0.5
                expected = own * min(1.0, most / length)
                assert torch.allclose(found[picture, :, row, column], expected, atol=1e-6)


def test_a_reach_is_the_cells_of_the_regions_that_still_move() -> None:
    boxes = [[Cells(0, 2, 0, 2), Cells(1, 3, 1, 3)], [Cells(0, 1, 0, 3), None]]
    regions = torch.stack([torch.stack([cell_mask(own, 3, 3) for own in one]) for one in boxes])
    reach = reach_of(regions, torch.tensor([[1.0, 0.0], [0.5, 1.0]]))
    assert reach[0, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert reach[1, 0].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert reach_of(regions, torch.tensor([[0.0], [1.0]])).amax(dim=(1, 2, 3)).tolist() == [0, 1]


def test_statistics_are_each_pictures_own_and_a_picture_without_reach_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 6, 6, generator=generator)
    moved = 2 * latents + 1
    reach = torch.zeros(2, 1, 6, 6)
    reach[0, :, :3] = 1
    found = with_statistics_of(latents, moved, reach)
    assert torch.allclose(found[0, :, :3], latents[0, :, :3], atol=1e-5)
    assert torch.equal(found[0, :, 3:], moved[0, :, 3:]) and torch.equal(found[1], moved[1])


def test_the_worst_off_region_weighs_most_and_the_mean_weight_is_one() -> None:
    losses = torch.tensor([[2.0, 6.0, 4.0], [7.0, 0.0, 0.0]])
    found = worst_first(losses, torch.tensor([[3.0], [1.0]]))
    assert found.tolist() == [[0.5, 1.5, 1.0], [1.0, 0.0, 0.0]]
