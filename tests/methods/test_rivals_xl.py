"""Every method on Stable Diffusion XL's structure: it makes its own picture of the concepts."""

import pytest
import torch
from tiny_families import random_concept, write_xl
from torch import Tensor

from toolkit.backbones import Base, Part, load_base
from toolkit.concept import Concept, load_concept, save_concept
from toolkit.config.schema import FusionConfig
from toolkit.fusion.fusion import fuse
from toolkit.fusion.store import Store
from toolkit.layout.layout import Layout, Region
from toolkit.methods import KINDS
from toolkit.sampling import compose

PAIR = Layout(
    "pair", "a dog and a cat", 192, 128,
    (Region("dog", "<dog>, sitting", (0.0, 0.1, 0.45, 1.0)),
     Region("cat", "<cat>, sitting", (0.55, 0.2, 1.0, 0.9))),
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_xl(tmp_path_factory.mktemp("rivals") / "xl"), "xl")


@pytest.fixture(scope="module")
def concepts(base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Concept]:
    """Two concepts, as their files hold them, and their fusion."""
    folder = tmp_path_factory.mktemp("concepts")
    for seed, name in enumerate(("dog", "cat")):
        save_concept(
            random_concept(base, name, seed), folder / f"{name}.safetensors", torch.float32
        )
    found = {name: load_concept(folder / f"{name}.safetensors") for name in ("dog", "cat")}
    settings = FusionConfig(steps=2)
    fused = fuse(base, list(found.values()), settings, (64, 64), Store(folder / "work"))
    return found | {"dog_cat": fused}


def sample(base: Base, concepts: dict[str, Concept], method: str) -> Tensor:
    made = KINDS[method]()
    return compose(base, made, [made.prepare(base, PAIR, concepts)], [1], 3)


def test_a_file_keeps_what_a_concept_has_for_both_text_encoders(
    base: Base, concepts: dict[str, Concept]
) -> None:
    drawn, read = random_concept(base, "dog", 0), concepts["dog"]
    read.check_fits(base)
    for part, own in drawn.token_embeddings.items():
        assert torch.equal(read.token_embeddings[part], own)
    assert own.shape == (2, 11, 24)
    for part, changes in drawn.changes.items():
        assert set(read.changes[part]) == set(changes)
        assert all(
            torch.equal(read.changes[part][path].up, pair.up) for path, pair in changes.items()
        )


def test_a_fusion_serves_both_text_encoders_and_all_blocks(concepts: dict[str, Concept]) -> None:
    fused = concepts["dog_cat"]
    assert fused.token_names == ("<dog1>", "<dog2>", "<cat1>", "<cat2>")
    assert [len(fused.changes[part]) for part in Part] == [70 * 8, 3 * 4, 3 * 4]
    assert fused.embeddings_2 is not None and fused.embeddings_2.shape == (4, 11, 24)


def test_every_method_makes_a_picture_of_its_own(base: Base, concepts: dict[str, Concept]) -> None:
    apart_from = {
        "cones2",
        "paint_by_example",
    }  # one is refused on XL, the other brings its own model
    made = {method: sample(base, concepts, method) for method in KINDS if method not in apart_from}
    for method, latents in made.items():
        assert latents.isfinite().all(), method
        for other, others in made.items():
            apart = (latents - others).abs().max() / others.std()
            assert method == other or apart > 1e-3, (method, other)
