"""Computing blocks of the guidance pass again keeps less of it, and changes no bit of a picture."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from tiny_families import random_concept, write_xl
from torch import Tensor

from toolkit.backbones import Base, Part, load_base
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.unet import recomputing
from toolkit.backbones.unet.recomputing import blocks_computed_again
from toolkit.concept import Concept
from toolkit.layout.layout import Layout, Region
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import compose

PAIR = Layout(
    "pair", "a dog and a cat", 192, 128,
    (Region("dog", "<dog>, sitting", (0.0, 0.1, 0.45, 1.0)),
     Region("cat", "<cat>, sitting", (0.55, 0.2, 1.0, 0.9))),
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_xl(tmp_path_factory.mktemp("recomputing") / "xl"), "xl")


@pytest.fixture(scope="module")
def concepts(base: Base) -> dict[str, Concept]:
    """Two concepts, one of which also changes every feed-forward."""
    found = {name: random_concept(base, name, seed) for seed, name in enumerate(("dog", "cat"))}
    generator = torch.Generator().manual_seed(3)
    more = {
        path: LowRank(*(0.2 * torch.randn(*shape, generator=generator) for shape in shapes))
        for path, (rows, columns) in base.map_shapes(Part.UNET).items()
        if path.endswith(".ff.net.2")
        for shapes in [((2, columns), (rows, 2))]
    }
    dog = found["dog"]
    return found | {"dog": replace(dog, unet={**dog.unet, **more})}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the smallest passes are computed again too."""
    monkeypatch.setattr(recomputing, "KEPT_AT_MOST", 0)


def made(base: Base, concepts: dict[str, Concept]) -> Tensor:
    return compose(base, PUBLISHED, [PUBLISHED.prepare(base, PAIR, concepts)], [1], 3)


def kept(base: Base, concepts: dict[str, Concept]) -> int:
    """Bytes that a guidance pass keeps for its way back, weights aside."""
    passes = base.passes(PUBLISHED.prepare(base, PAIR, concepts), PUBLISHED.regional)
    weights = {parameter.untyped_storage()._cdata for parameter in base.unet.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            found[storage._cdata] = storage
        return tensor

    latents = torch.zeros(1, 4, 16, 24, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        maps = passes.maps(latents, torch.tensor(500), [0], self_attention=True)
    del maps
    return sum(storage.nbytes() for storage in found.values())


@pytest.fixture(scope="module")
def expected(base: Base, concepts: dict[str, Concept]) -> Tensor:
    assert not blocks_computed_again(base, (16, 24), 1)
    return made(base, concepts)


def test_pictures_are_the_same_to_the_bit(
    expected: Tensor, always: None, base: Base, concepts: dict[str, Concept]
) -> None:
    assert torch.equal(made(base, concepts), expected)


def test_less_is_kept(
    base: Base, concepts: dict[str, Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kept(base, concepts)
    monkeypatch.setattr(recomputing, "KEPT_AT_MOST", 0)
    assert kept(base, concepts) < whole / 2


def test_what_a_thread_trains_meanwhile_is_not_in_what_is_computed_again(
    expected: Tensor, always: None, base: Base, concepts: dict[str, Concept]
) -> None:
    """It puts its LoRA on, and takes it off, whenever it is let."""
    with ThreadPoolExecutor(1) as pool:
        composing = pool.submit(made, base, concepts)
        while not composing.done():
            with base.lora_injected(2, torch.Generator()), base.heard_by_layer():
                pass
        assert torch.equal(composing.result(), expected)


def test_a_base_that_is_made_ready_for_training_composes_and_stays_ready(
    expected: Tensor, always: None, base: Base, concepts: dict[str, Concept]
) -> None:
    base.unet.enable_gradient_checkpointing()
    try:
        assert torch.equal(made(base, concepts), expected)
        assert base.unet.is_gradient_checkpointing
        transformers = [m for m in base.unet.modules() if type(m).__name__ == "Transformer2DModel"]
        assert all(one.gradient_checkpointing for one in transformers)
    finally:
        base.unet.disable_gradient_checkpointing()


def test_blocks_are_computed_again_where_they_would_keep_much(base: Base) -> None:
    sizes = [(side, side) for side in range(16, 2049, 16)]
    chosen = [len(blocks_computed_again(base, size, 1)) for size in sizes]
    assert chosen == sorted(chosen)
    assert chosen[0] == 0 and any(0 < some < 20 for some in chosen), "no more than it takes"
    assert 50 < chosen[-1] <= 64 - 6  # 4 before the grid and 60 at it, less those that are read
    once = next(size for size, some in zip(sizes, chosen, strict=True) if some)
    half = (once[0] // 2, once[1] // 2)
    assert blocks_computed_again(base, half, 4), "four pictures keep as much"
