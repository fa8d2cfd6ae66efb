"""The constraints against slow, obvious versions of the formulas."""

import math

import pytest
import torch

from toolkit.backbones.unet.isolation import blocked_counts, isolation
from toolkit.layout.cells import Cells, cells_of
from toolkit.layout.masks import cell_mask
from toolkit.methods import constraints
from toolkit.methods.constraints import Top
from toolkit.methods.lora_composer import PAPER, PUBLISHED, LoraComposer
from toolkit.methods.objective import Terms, losses_of, terms_of
from toolkit.methods.places import Places, places_on
from toolkit.methods.reinitialisation import best_window, move_noise, rescale_paper

HEIGHT, WIDTH = 6, 9
CELLS = Cells(top=1, bottom=5, left=2, right=8)


@pytest.fixture
def attention() -> torch.Tensor:
    return torch.rand(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def own() -> torch.Tensor:
    scores = torch.randn(HEIGHT * WIDTH, HEIGHT * WIDTH, generator=torch.Generator().manual_seed(1))
    return scores.softmax(dim=-1)


MASK = cell_mask(CELLS, HEIGHT, WIDTH)


def places(regions: int = 1) -> Places:
    """One picture whose regions all have the box, and two tokens each."""
    return places_on(
        (HEIGHT, WIDTH),
        ((CELLS,) * regions,),
        [[(3, 4)] * regions],
        [torch.stack([MASK] * regions)],
        0.2,
        True,
        torch.device("cpu"),
    )


def leaks(mask: torch.Tensor) -> torch.Tensor:
    inside = mask.flatten().bool()
    return inside[:, None] & ~inside


def top(count: int) -> Top:
    return Top(torch.tensor(count), count)


def gauss(row: int, column: int) -> float:
    y = -1 + 2 * row / (CELLS.height - 1)
    x = -1 + 2 * column / (CELLS.width - 1)
    return math.exp(-(x * x + y * y) / 2)


def test_enhancement_is_one_minus_the_mean_of_the_strongest_weighted_cells(
    attention: torch.Tensor,
) -> None:
    peak = max(gauss(r, c) for r in range(CELLS.height) for c in range(CELLS.width))
    most = int(0.2 * 24)
    (weight,) = places().weight[0]
    found = constraints.enhancement_loss(attention, MASK, weight, top(most))
    for token in range(2):
        values = [
            float(attention[token, CELLS.top + r, CELLS.left + c]) * gauss(r, c) / peak
            for r in range(CELLS.height)
            for c in range(CELLS.width)
        ]
        expected = 1 - sum(sorted(values, reverse=True)[:most]) / most
        assert float(found[token]) == pytest.approx(expected, rel=1e-5)


def test_paper_fill_takes_maxima_over_the_whole_map_and_one_mean(attention: torch.Tensor) -> None:
    found = constraints.fill_loss_paper(attention, MASK)
    for token in range(2):
        a = attention[token]
        gaps = [1 - max(float(a[i, j]) for i in range(HEIGHT)) for j in range(2, 8)]
        gaps += [1 - max(float(a[i, j]) for j in range(WIDTH)) for i in range(1, 5)]
        assert float(found[token]) == pytest.approx(sum(gaps) / len(gaps), rel=1e-5)


def test_published_fill_masks_first_and_averages_over_the_axis(attention: torch.Tensor) -> None:
    columns, rows = constraints.fill_loss_published(attention, MASK)
    for token in range(2):
        a = attention[token]
        x = [1 - max(float(a[i, j]) for i in range(1, 5)) for j in range(2, 8)]
        y = [1 - max(float(a[i, j]) for j in range(2, 8)) for i in range(1, 5)]
        assert float(columns[token]) == pytest.approx(sum(x) / WIDTH, rel=1e-5)
        assert float(rows[token]) == pytest.approx(sum(y) / HEIGHT, rel=1e-5)


def test_region_loss_is_the_strongest_leak_out_of_the_box(own: torch.Tensor) -> None:
    inside = [r * WIDTH + c for r in range(1, 5) for c in range(2, 8)]
    strongest = sorted(
        (float(own[q, k]) for q in inside for k in range(HEIGHT * WIDTH) if k not in inside),
        reverse=True,
    )
    found = constraints.region_loss(own, leaks(MASK), top(4))
    assert float(found) == pytest.approx(sum(strongest[:4]) / 4, rel=1e-5)


def test_region_loss_of_a_box_that_fills_the_canvas_is_zero(
    attention: torch.Tensor, own: torch.Tensor
) -> None:
    whole = Cells(0, HEIGHT, 0, WIDTH)
    grid = (HEIGHT, WIDTH)
    device = torch.device("cpu")
    reach = [torch.ones(1, *grid)]
    full = places_on(grid, ((whole,),), [[(3, 4)]], reach, 0.2, True, device)
    assert float(terms_of(attention[None, None], own[None], full, PUBLISHED).region) == 0


def test_paper_loss_averages_tokens_and_uses_the_papers_weights(
    attention: torch.Tensor, own: torch.Tensor
) -> None:
    two = places(regions=2)
    terms = terms_of(attention.expand(1, 2, -1, -1, -1), own[None], two, PAPER)
    ce = constraints.enhancement_loss(attention, MASK, places().weight[0, 0], top(4)).mean()
    fill = constraints.fill_loss_paper(attention, MASK).mean()
    region = constraints.region_loss(own, leaks(MASK), top(4))
    expected = 2 * (ce + 0.25 * fill + 0.8 * region)
    assert float(losses_of(terms, two, PAPER)) == pytest.approx(float(expected), rel=1e-5)


def test_a_region_with_fewer_tokens_in_a_batch_loses_what_it_loses_alone(
    attention: torch.Tensor, own: torch.Tensor
) -> None:
    grid, device = (HEIGHT, WIDTH), torch.device("cpu")
    small, reach = Cells(0, 3, 0, 4), torch.zeros(1, HEIGHT, WIDTH)
    alone = places_on(grid, ((small,),), [[(3,)]], [reach], 0.2, True, device)
    both = places_on(
        grid, ((CELLS, CELLS), (small,)), [[(3, 4)] * 2, [(3,)]],
        [reach.expand(2, -1, -1), reach], 0.2, True, device,
    )  # fmt: skip
    maps = attention.expand(2, 2, -1, -1, -1)
    for method in (PUBLISHED, PAPER):
        expected = losses_of(
            terms_of(attention[None, None, :1], own[None], alone, method), alone, method
        )
        found = losses_of(terms_of(maps, own.expand(2, -1, -1), both, method), both, method)
        assert float(found[1]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("switch", "term"),
    [("enhancement", "enhancement"), ("fill_loss", "fill_x"), ("region_loss", "region")],
)
def test_a_switch_turns_off_its_own_constraint_alone(
    switch: str, term: str, attention: torch.Tensor, own: torch.Tensor
) -> None:
    maps = attention[None, None]
    on = vars(terms_of(maps, own[None], places(), PUBLISHED))
    off = vars(terms_of(maps, own[None], places(), LoraComposer(**{switch: False})))
    for name in Terms.__dataclass_fields__:
        same = torch.equal(on[name], off[name])
        assert same != (name == term or (name == "fill_y" and term == "fill_x"))


def test_boxes_cover_only_whole_cells() -> None:
    assert cells_of((0.05, 0.15, 0.45, 0.95), 8, 16) == Cells(2, 7, 1, 7)
    assert cells_of((0.55, 0.0, 1.0, 1.0), 10, 20) == Cells(0, 10, 11, 20)
    assert cells_of((0.3, 0.3, 0.35, 0.9), 8, 8) is None


BOXES = [Cells(0, 4, 0, 5), Cells(2, 6, 3, 7), Cells(0, 2, 7, 9)]


def test_region_mask_blocks_once_for_every_other_box_that_holds_the_key() -> None:
    counts = blocked_counts(BOXES, HEIGHT, WIDTH, torch.device("cpu"))

    def holds(box: Cells, cell: int) -> bool:
        row, column = divmod(cell, WIDTH)
        return box.top <= row < box.bottom and box.left <= column < box.right

    for q in range(HEIGHT * WIDTH):
        for k in range(HEIGHT * WIDTH):
            expected = sum(holds(n, q) and holds(m, k) for n in BOXES for m in BOXES if m is not n)
            assert counts[q, k] == expected


def test_leaving_keys_out_equals_the_dense_mask_with_overlapping_boxes() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, 2, HEIGHT * WIDTH, 4, generator=generator) for _ in range(3))
    counts = blocked_counts(BOXES, HEIGHT, WIDTH, torch.device("cpu"))
    dense = (q @ k.transpose(-1, -2) * 0.5 - 1e6 * counts).softmax(dim=-1) @ v
    groups = isolation(BOXES, HEIGHT, WIDTH, torch.device("cpu"))
    assert groups is not None
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            q[:, :, g.queries], k[:, :, g.keys], v[:, :, g.keys], scale=0.5
        )
        for g in groups.groups
    ]
    assert torch.allclose(torch.cat(parts, dim=2)[:, :, groups.restore], dense, atol=1e-5)


def test_best_window_is_the_one_with_the_largest_sum() -> None:
    response = torch.zeros(HEIGHT, WIDTH)
    response[2:4, 5:8] = 1
    assert best_window(response, Cells(0, 2, 0, 3)) == (2, 5)


def test_noise_moves_in_whole_guidance_cells_and_later_boxes_win() -> None:
    noise = torch.randn(4, 12, 18, generator=torch.Generator().manual_seed(3))
    first, second = torch.zeros(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)
    first[4:6, 0:2] = 1
    second[0:2, 7:9] = 1
    boxes = [Cells(0, 2, 0, 2), Cells(1, 3, 1, 3)]
    moved = move_noise(noise, [first, second], boxes, factor=2)
    assert torch.equal(moved[:, 2:6, 2:6], noise[:, 0:4, 14:18])
    assert torch.equal(moved[:, 0:2, 0:4], noise[:, 8:10, 0:4])
    assert torch.equal(moved[:, 6:, 6:], noise[:, 6:, 6:])


def test_paper_reinitialisation_ends_as_a_standard_gaussian() -> None:
    rescaled = rescale_paper(torch.randn(4, 12, 18) * 3 + 1)
    assert float(rescaled.mean()) == pytest.approx(0, abs=1e-5)
    assert float(rescaled.std()) == pytest.approx(1, rel=1e-5)
