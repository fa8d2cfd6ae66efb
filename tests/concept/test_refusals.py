"""Files that are broken, dangerous or for something else end in one line; nothing in them runs."""

import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from toolkit.backbones import Base
from toolkit.concept import Concept
from toolkit.concept.formats.lora import read_lora
from toolkit.concept.formats.mix_of_show import load_mix_of_show
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format
from toolkit.errors import InputError

REFERENCE = Path(__file__).parent.parent / "reference" / "concepts"
K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
RESNET = "lora_unet_down_blocks_0_resnets_0"


@pytest.fixture(scope="module")
def dog() -> Concept:
    return load_mix_of_show(REFERENCE / "dog.pth", "dog")


def pair(name: str, down: tuple[int, ...], up: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {f"{name}.lora_down.weight": torch.ones(down), f"{name}.lora_up.weight": torch.ones(up)}


def refused(path: Path, base: Base, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as raised:
        read_foreign(path, "x", base, trigger="x")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({f"{K}.hada_w1_a": torch.ones(2, 2)}, "lacks one of the matrices of its LoHa"),
        ({f"{K}.lokr_w1": torch.ones(2, 2)}, "lacks one of the matrices of its LoKr"),
        ({f"{K}.lokr_w1": torch.ones(3, 3), f"{K}.lokr_w2": torch.ones(3, 3)}, "another base"),
        ({f"{K}.dora_scale": torch.ones(1, 32)}, "a magnitude .DoRA., and nothing to rescale"),
        ({**pair(K, (2, 32), (16, 2)), f"{K}.dora_scale": torch.ones(1, 7)}, "another base"),
        ({f"{K}.diff": torch.ones(2, 2)}, "another base"),
        ({f"{K}.oft_blocks": torch.ones(2, 2, 2)}, "it is a OFT"),
        ({f"{K}.alpha": torch.ones(())}, "alpha, and nothing to scale"),
        ({f"{K}.on_input": torch.ones(())}, "on_input without what belongs to it"),
        (pair(f"{RESNET}_conv1", (2, 7, 3, 3), (32, 2, 1, 1)), "another base"),
        (pair("lora_te2_text_model_encoder_layers_0_mlp_fc1", (2, 32), (32, 2)), "XL"),
        (pair("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k",
              (2, 32), (32, 2)), "XL"),
        (pair("lora_unet_nowhere", (2, 32), (32, 2)), "no such map"),
        ({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, "no part of a LoRA"),
        ({f"{K}.lora_down.weight": torch.ones(2, 32)}, "lacks one half"),
        (pair(K, (2, 32), (32, 3)), "do not fit each other"),
        (pair(K, (2, 7), (5, 2)), "another base"),
        (pair(K, (2, 32, 3), (32, 2)), "not two sides"),
        ({**pair(K, (2, 32), (32, 2)), f"{K}.alpha": torch.ones(3)}, "not one number"),
        ({f"{K}.lora_down.weight": torch.full((2, 32), torch.nan)}, "not finite"),
        ({"emb_params": torch.full((1, 32), torch.inf)}, "not finite"),
        ({"emb_params": torch.ones(1, 768)}, "768 wide"),
        ({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, "XL"),
        ({f"{K}.lora_down.weight": torch.ones(2, 32, dtype=torch.int32)}, "not finite numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_reason(
    tensors: dict[str, torch.Tensor], reason: str, tiny_base: Base, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", tiny_base, reason)


def test_a_lora_without_words_asks_for_them(dog: Concept, tiny_base: Base, tmp_path: Path) -> None:
    lora, inversion = write_foreign(dog, Format.KOHYA, tmp_path / "dog.safetensors").files
    inversion.unlink()
    with pytest.raises(InputError, match="trigger="):
        read_foreign(lora, "x", tiny_base)


def test_words_for_a_concept_that_has_embeddings_are_a_mistake(tiny_base: Base) -> None:
    with pytest.raises(InputError, match="leave out trigger="):
        read_foreign(REFERENCE / "dog.pth", "x", tiny_base, trigger="x")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("inside", ["bare", "in a torch file", "among tensors"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(
    inside: str, tiny_base: Base, tmp_path: Path
) -> None:
    bomb, path = Bomb(tmp_path / "exploded"), tmp_path / "bomb.pth"
    if inside == "bare":
        path.write_bytes(pickle.dumps(bomb))
    elif inside == "in a torch file":
        torch.save(bomb, path)
    else:
        content = torch.load(REFERENCE / "dog.pth", weights_only=True)
        content["params"]["unet"]["x"] = bomb
        torch.save(content, path)
    refused(path, tiny_base, "refused")
    assert not (tmp_path / "exploded").exists()


def test_a_zip_bomb_is_refused_before_it_unpacks(tiny_base: Base, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 100_000_000)
    assert path.stat().st_size < 1_000_000
    refused(path, tiny_base, "unpacks to 100 MB")


def test_a_truncated_file_is_refused(dog: Concept, tiny_base: Base, tmp_path: Path) -> None:
    for format, suffix in ((Format.KOHYA, ".safetensors"), (Format.MIX_OF_SHOW, ".pth")):
        file = write_foreign(dog, format, tmp_path / f"dog{suffix}").files[0]
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        refused(file, tiny_base, "whole|refused")


@pytest.mark.parametrize("length", [0, 7, 2**40, 2**63 - 1])
def test_a_header_that_lies_about_its_size_is_refused(
    length: int, tiny_base: Base, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":{"dtype":"F32"}}')
    refused(path, tiny_base, "not a whole .safetensors file")


def test_a_header_that_lies_about_a_tensors_size_is_refused(
    tiny_base: Base, tmp_path: Path
) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(path, tiny_base, "not a whole .safetensors file")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04N.", pickle.dumps([1, 2])])
def test_what_is_no_such_file_is_refused(content: bytes, tiny_base: Base, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    refused(path, tiny_base, "refused|holds")


def test_mutated_files_are_read_or_refused_and_nothing_else(
    dog: Concept, tiny_base: Base, tmp_path: Path
) -> None:
    chance = random.Random(0)
    sources = [
        write_foreign(dog, Format.KOHYA, tmp_path / "a.safetensors").files[0],
        write_foreign(dog, Format.MIX_OF_SHOW, tmp_path / "b.pth").files[0],
        write_foreign(dog, Format.DIFFUSERS, tmp_path / "c.safetensors").files[1],
    ]
    outcomes = {"read": 0, "refused": 0}
    for number in range(240):
        source = sources[number % len(sources)]
        content = bytearray(source.read_bytes())
        start = 0 if chance.random() < 0.5 else max(len(content) - 4000, 0)  # headers and indices
        for _ in range(chance.choice((1, 4, 32))):
            content[start + chance.randrange(min(4000, len(content)))] = chance.randrange(256)
        if chance.random() < 0.2:
            del content[chance.randrange(len(content)) :]
        path = tmp_path / f"mutated{source.suffix}"
        path.write_bytes(bytes(content))
        try:
            read_foreign(path, "x", tiny_base, trigger="x")
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 150


def test_matrices_of_any_shape_are_read_or_refused(tiny_base: Base) -> None:
    chance = random.Random(1)
    roles = [
        "lora_down.weight",
        "lora_up.weight",
        "lora_mid.weight",
        "alpha",
        "dora_scale",
        "diff",
        "diff_b",
        "w_norm",
        "b_norm",
        "hada_w1_a",
        "hada_w1_b",
        "hada_w2_a",
        "hada_w2_b",
        "hada_t1",
        "hada_t2",
        "lokr_w1",
        "lokr_w1_a",
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "lokr_t2",
        "weight",
        "on_input",
        "ia3_l",
        "bias",
    ]
    sides = {K: 32, f"{RESNET}_conv1": 16, f"{RESNET}_norm1": 16}
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        module = chance.choice(list(sides))
        known = (0, 1, 2, 4, 16, sides[module])
        kind = chance.choice(("lora", "hada", "lokr", "d", ""))
        chosen = [role for role in roles if role.startswith(kind) and chance.random() < 0.8]
        tensors = {
            f"{module}.{role}": torch.ones(
                [chance.choice(known) for _ in range(chance.choice((1, 2, 2, 2, 4)))]
            )
            for role in chosen
        }  # fmt: skip
        nothing = Concept("x", torch.zeros(0, 16, 32), (), {}, {}, trigger_words="x")
        try:
            changes = read_lora(tensors, {}, {}, tiny_base, Path("x.safetensors"))
            nothing.with_changes(changes).check_fits(tiny_base)
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["read"] and outcomes["refused"] > 200
