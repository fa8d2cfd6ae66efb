"""Every method on the structures of Stable Diffusion XL and 2.x: it makes a picture of its own."""

import pytest
import torch
from tiny_families import random_concept, write_sd2, write_xl
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


@pytest.fixture(scope="module", params=[write_xl, write_sd2])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(request.param(tmp_path_factory.mktemp("rivals") / "base"), "base")


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


def test_a_file_keeps_what_a_concept_has_for_each_text_encoder(
    base: Base, concepts: dict[str, Concept]
) -> None:
    drawn, read = random_concept(base, "dog", 0), concepts["dog"]
    read.check_fits(base)
    for part, own in drawn.token_embeddings.items():
        assert torch.equal(read.token_embeddings[part], own)
    assert own.shape == (2, base.transformers, 24)
    for part, changes in drawn.changes.items():
        assert set(read.changes[part]) == set(changes)
        assert all(
            torch.equal(read.changes[part][path].up, pair.up) for path, pair in changes.items()
        )


def test_a_fusion_serves_all_text_encoders_and_all_blocks(
    base: Base, concepts: dict[str, Concept]
) -> None:
    fused = concepts["dog_cat"]
    assert fused.token_names == ("<dog1>", "<dog2>", "<cat1>", "<cat2>")
    two = base.text_encoder_2 is not None
    expected = {Part.UNET: (70 if two else 16) * 8, Part.TEXT_ENCODER: 3 * 4}
    assert {part: len(own) for part, own in fused.changes.items() if own} == expected | (
        {Part.TEXT_ENCODER_2: 3 * 4} if two else {}
    )
    shapes = {part: own.shape[1:] for part, own in fused.token_embeddings.items()}
    assert shapes == base.embedding_shapes


def test_every_method_makes_a_picture_of_its_own(base: Base, concepts: dict[str, Concept]) -> None:
    apart_from = {"cones2", "paint_by_example"}  # one is refused on XL, one brings its own model
    made = {method: sample(base, concepts, method) for method in KINDS if method not in apart_from}
    for method, latents in made.items():
        assert latents.isfinite().all(), method
        for other, others in made.items():
            apart = (latents - others).abs().max() / others.std()
            assert method == other or apart > 1e-3, (method, other)
