"""Concept files: what is written is what is read, and what is wrong is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit.concept import Concept, load_concept, save_concept
from toolkit.concept.formats.mix_of_show import load_mix_of_show
from toolkit.errors import InputError

REFERENCE = Path(__file__).parent.parent / "reference" / "concepts"


@pytest.fixture
def dog() -> Concept:
    return load_mix_of_show(REFERENCE / "dog.pth", "dog", class_word="dog")


def test_a_concept_survives_being_written_and_read(dog: Concept, tmp_path: Path) -> None:
    save_concept(dog, tmp_path / "dog.safetensors", torch.float32)
    read = load_concept(tmp_path / "dog.safetensors")
    assert torch.equal(read.embeddings, dog.embeddings)
    assert read.token_names == ("<dog1>", "<dog2>")
    assert read.unet.keys() == dog.unet.keys()
    assert read.text_encoder.keys() == dog.text_encoder.keys()
    for path, pair in dog.unet.items():
        assert torch.equal(read.unet[path].down, pair.down)
        assert torch.equal(read.unet[path].up, pair.up)


def test_the_files_keys_are_those_of_the_contract(dog: Concept, tmp_path: Path) -> None:
    save_concept(dog, tmp_path / "dog.safetensors")
    tensors = load_file(tmp_path / "dog.safetensors")
    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    assert tensors["token_embeddings"].shape == (2, 16, 32)
    assert tensors[f"unet.{block}.to_k.lora_A.weight"].dtype == torch.float16
    assert "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight" in tensors


def test_an_imported_concept_answers_to_the_name_it_was_given() -> None:
    rex = load_mix_of_show(REFERENCE / "dog.pth", "rex", class_word="dog")
    assert rex.expand("<rex>, sitting") == "<rex1> <rex2>, sitting"
    assert rex.describe("<rex>, sitting") == "dog, sitting"


def test_the_research_branchs_keys_mean_the_same(dog: Concept, tmp_path: Path) -> None:
    content = torch.load(REFERENCE / "dog.pth", weights_only=True)["params"]
    for part in ("unet", "text_encoder"):
        content[part] = {
            key.replace(".lora_", "_lora."): value for key, value in content[part].items()
        }
    torch.save(content, tmp_path / "dog.pth")
    read = load_mix_of_show(tmp_path / "dog.pth", "dog")
    assert read.unet.keys() == dog.unet.keys()
    assert read.text_encoder.keys() == dog.text_encoder.keys()


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_a_pickle_with_code_is_refused_unexecuted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"params": Bomb()}))
    torch.save({"params": Bomb()}, tmp_path / "zipped.pth")
    for name in ("bomb.pth", "zipped.pth"):
        with pytest.raises(InputError, match="refused"):
            load_mix_of_show(tmp_path / name, "dog")
    assert "executed" not in capsys.readouterr().out


def test_a_truncated_file_is_refused(dog: Concept, tmp_path: Path) -> None:
    path = tmp_path / "dog.safetensors"
    save_concept(dog, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="not a whole .safetensors file"):
        load_concept(path)


def test_another_programs_file_and_broken_numbers_are_refused(dog: Concept, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not a concept file"):
        load_concept(tmp_path / "other.safetensors")
    dog.embeddings[0, 0, 0] = float("nan")
    save_concept(dog, tmp_path / "nan.safetensors")
    with pytest.raises(InputError, match="not finite"):
        load_concept(tmp_path / "nan.safetensors")
