"""A concept's changes of self-attention and of queries act in its own region, and only there."""

import pytest
import torch
from sample_layouts import PAIR

from toolkit.backbones import Base
from toolkit.backbones.low_rank import side_by_side
from toolkit.backbones.unet.isolation import BLOCKED, blocked_counts, isolation
from toolkit.concept import Concept, LowRank
from toolkit.layout.cells import Cells
from toolkit.layout.layout import Layout, Region
from toolkit.layout.masks import cell_mask, mean_weights
from toolkit.methods import LoraComposer, Method
from toolkit.methods.lora_composer import BALANCED, PUBLISHED
from toolkit.methods.plain import scales_of
from toolkit.sampling import compose

SIZE = (4, 6)
REGIONS = (Cells(0, 3, 0, 3), Cells(1, 4, 2, 6), None)
PARTS = {
    **{
        part: getattr(BALANCED, part)
        for part in ("self_attention_injection", "query_injection", "closed_share", "subject_bias")
    },
    "word_bias": 1.0,  # fast's
}


def sample(
    base: Base, concepts: dict[str, Concept], method: Method, layout: Layout = PAIR, steps: int = 3
) -> torch.Tensor:
    return compose(base, method, [method.prepare(base, layout, concepts)], [3], steps)[0]


def test_all_regions_at_once_are_what_a_loop_over_cells_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    changes = [
        LowRank(*(torch.randn(size, generator=generator) for size in ((r, 5), (7, r))))
        for r in (2, 3, 4)
    ]
    x = torch.randn(2, 24, 5, generator=generator)
    shares = mean_weights(torch.stack([cell_mask(cells, *SIZE) for cells in REGIONS])).flatten(1).T
    found = side_by_side(changes, shares[None]).added(torch.zeros(2, 24, 7), x)
    for row in range(4):
        for column in range(6):
            own = [
                change(x[:, row * 6 + column])
                for change, cells in zip(changes, REGIONS, strict=True)
                if cells is not None
                and cells.top <= row < cells.bottom
                and cells.left <= column < cells.right
            ]
            expected = torch.stack(own).mean(dim=0) if own else torch.zeros(2, 7)
            assert torch.allclose(found[:, row * 6 + column], expected, atol=1e-5)


def test_a_region_without_a_change_of_a_map_adds_nothing_to_it() -> None:
    change = LowRank(torch.ones(1, 2), torch.ones(3, 1))
    shares = mean_weights(torch.stack([cell_mask(cells, *SIZE) for cells in REGIONS])).flatten(1).T
    placed = side_by_side([None, change, None], shares[None])
    found = placed.added(torch.zeros(1, 24, 3), torch.ones(1, 24, 2)).unflatten(1, SIZE)
    assert (found[0, 0, :2] == 0).all() and (found[0, 3, 4:] == 2).all()
    assert (found[0, 1, 2] == 1).all()  # shared with a region that changes nothing here


@pytest.mark.parametrize(("part", "value"), PARTS.items())
def test_every_part_of_balanced_and_fast_acts_by_itself(
    part: str, value: float, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    published = sample(reference_base, concepts, PUBLISHED)
    changed = sample(reference_base, concepts, LoraComposer(**{part: value}))
    assert (changed - published).abs().max() > 1e-4 * published.std()


def test_closed_boxes_see_themselves_alone() -> None:
    boxes = [Cells(0, 2, 0, 2), Cells(1, 3, 1, 4)]
    blocked = blocked_counts(boxes, 3, 5, torch.device("cpu"), closed=True).unflatten(0, (3, 5))
    free = blocked == blocked.amin(dim=-1, keepdim=True)
    first = [0, 1, 5]  # its cells that the other box does not hold
    for query in ((0, 0), (0, 1), (1, 0)):
        assert free[query].nonzero()[:, 0].tolist() == first
    assert free[2, 4].all()  # the background sees everything
    assert not free[2, 2][[0, 1, 5, 4, 9, 14]].any()  # neither the other box nor the background


@pytest.mark.parametrize("closed", [False, True])
def test_grouped_isolation_is_the_masked_attention(closed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [Cells(0, 2, 0, 2), Cells(1, 3, 1, 4), Cells(2, 4, 3, 6)]
    query, key, value = (torch.randn(24, 8, generator=generator).double() for _ in range(3))
    bias = blocked_counts(boxes, *SIZE, torch.device("cpu"), closed) * BLOCKED
    expected = (query @ key.T + bias).softmax(dim=-1) @ value
    groups = isolation(boxes, *SIZE, torch.device("cpu"), closed)
    assert groups is not None
    found = torch.cat(
        [(query[g.queries] @ key[g.keys].T).softmax(dim=-1) @ value[g.keys] for g in groups.groups]
    )[groups.restore]
    assert torch.allclose(found, expected, atol=1e-4)


def test_one_box_is_closed_too() -> None:
    assert isolation([Cells(0, 2, 0, 2)], 3, 5, torch.device("cpu"), closed=True) is not None
    assert isolation([Cells(0, 2, 0, 2)], 3, 5, torch.device("cpu")) is None


def test_a_region_may_have_a_guidance_scale_of_its_own(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    dog, cat = PAIR.regions
    own = Layout(
        **(vars(PAIR) | {"regions": (dog, Region(**(vars(cat) | {"guidance_scale": 2.0})))})
    )
    same = Layout(
        **(vars(PAIR) | {"regions": (Region(**(vars(dog) | {"guidance_scale": 7.5})), cat)})
    )
    ready = [PUBLISHED.prepare(reference_base, layout, concepts)[0] for layout in (PAIR, own)]
    scales = scales_of(reference_base, ready, 7.5)
    assert isinstance(scales, torch.Tensor)
    assert (scales[0] == 7.5).all() and set(scales[1].unique().tolist()) == {2.0, 7.5}
    assert (scales[1, 0, 6:20, 18:30] == 2.0).all()
    fast = LoraComposer(enhancement=False, fill_loss=False, region_loss=False)
    plain = sample(reference_base, concepts, fast)
    assert torch.equal(sample(reference_base, concepts, fast, same), plain)
    assert not torch.equal(sample(reference_base, concepts, fast, own), plain)


def test_fast_never_goes_backward(
    reference_base: Base, concepts: dict[str, Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.config.commands import read_compose

    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a backward pass"))
    config = read_compose(["method=fast", "layout=scene1"])
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    handle = reference_base.unet.register_forward_pre_hook(count)
    latents = sample(reference_base, concepts, config.method, steps=4)
    handle.remove()
    assert passes == 4 + 1 and not latents.requires_grad
