"""A file that others made is told by what it holds, and its settings are honoured or refused."""

import json
import math
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit.backbones import Base
from toolkit.cli import main
from toolkit.concept import Concept, LowRank, load_concept
from toolkit.concept.file import save_concept
from toolkit.concept.formats.mix_of_show import load_mix_of_show
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.scale import scales_of
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format
from toolkit.errors import InputError

CASES = Path(__file__).parent.parent / "cases"
REFERENCE = Path(__file__).parent.parent / "reference" / "concepts"
MODULE = "down_blocks.0.attentions.0.transformer_blocks.0"
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"


@pytest.fixture
def dog() -> Concept:
    return load_mix_of_show(REFERENCE / "dog.pth", "dog", class_word="dog")


@pytest.fixture
def kohya(dog: Concept, tmp_path: Path) -> Path:
    """A plain LoRA in kohya's format."""
    none = replace(dog, embeddings=torch.zeros(0, 16, 32), token_names=())
    return write_foreign(none, Format.KOHYA, tmp_path / "lora.safetensors").files[0]


def refused(path: Path, base: Base) -> str:
    with pytest.raises(InputError) as caught:
        read_foreign(path, "toy", base, trigger="sks")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_alpha(file: Path, alpha: torch.Tensor, only: str = "") -> None:
    tensors = {
        name: alpha.clone() if name.endswith(".alpha") and only in name else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file)


@pytest.mark.parametrize("name", ["128078", "OK.SAFETENSORS", "ok.safetensors.1", "ok.pt"])
def test_lora_suffix(name: str, kohya: Path, tiny_base: Base) -> None:
    file = kohya.rename(kohya.with_name(name))
    assert read_foreign(file, "toy", tiny_base, trigger="sks").unet


@pytest.mark.parametrize("name", ["dog.safetensors", "dog"])
def test_a_pickle_may_be_called_anything(name: str, tiny_base: Base, tmp_path: Path) -> None:
    shutil.copy(REFERENCE / "dog.pth", tmp_path / name)
    assert read_foreign(tmp_path / name, "toy", tiny_base).token_names == ("<toy1>", "<toy2>")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>Log in", "a web page: download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b'{"error": "unauthorized"}', "a JSON text"),
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"7z\xbc\xaf\x27\x1c", "a packed archive"),
        (b"PK\x05\x06" + bytes(18), "a zip archive: unpack it"),
        (b"", "it is empty"),
        (b"hello", "is refused|not a whole"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ""])
def test_what_is_no_file_of_tensors_is_named(
    content: bytes, said: str, suffix: str, tiny_base: Base, tmp_path: Path
) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    assert any(part in refused(tmp_path / f"x{suffix}", tiny_base) for part in said.split("|"))


def test_a_folder_names_the_file_in_it(tiny_base: Base, kohya: Path, tmp_path: Path) -> None:
    kohya.rename(tmp_path / "adapter_model.safetensors")
    assert f"give the file in it, {tmp_path}/adapter_model.safetensors" in refused(
        tmp_path, tiny_base
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("flux_aitoolkit", "made for Flux"),
        ("flux_diffusers", "made for Flux"),
        ("flux_kohya", "made for Flux"),
        ("sd3", "made for Stable Diffusion 3"),
        ("wan", "made for Wan"),
    ],
)
def test_lora_other_family_message(file: str, said: str, tiny_base: Base) -> None:
    path = CASES / "lora_other_family_message" / f"{file}.safetensors"
    assert said in refused(path, tiny_base)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("diffusion_model.layers.0.attention.qkv.lora_A.weight", "Z-Image"),
        ("transformer.transformer_blocks.0.img_mlp.net.2.lora_A.weight", "Qwen-Image"),
        ("lora_unet_single_blocks_3_linear1.lokr_w1", "Flux"),
        ("lora_transformer_single_transformer_blocks_0_attn_to_k.lora_down.weight", "Flux"),
        ("transformer.blocks.0.attn1.to_q.lora_A.weight", "Wan"),
        ("diffusion_model.something.lora_A.weight", "a diffusion transformer"),
        ("unet.up_blocks.0.attentions.0.transformer_blocks.7.attn2.to_k.lora_A.weight", "XL"),
        ("lora_unet_input_blocks_7_1_transformer_blocks_4_attn1_to_k.lora_down.weight", "XL"),
        ("lora_unet_input_blocks_1_0_in_layers_3.lora_down.weight", "no such map"),
        (f"unet.{MODULE}.attn2.to_k.lora_B.bias", "no part of a LoRA"),
        (f"{KOHYA}_attn2_to_k.oft_blocks", "it is a OFT"),
        (f"{KOHYA}_attn2_to_k.scalar", "trained scale"),
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("image_proj.latents", "an IP-Adapter"),
        ("first_stage_model.decoder.conv_in.weight", "a whole Stable Diffusion model"),
        ("down_blocks.0.attentions.0.norm.weight", "a whole U-Net"),
    ],
)
def test_other_kinds_and_families_are_named(
    name: str, said: str, tiny_base: Base, tmp_path: Path
) -> None:
    save_file({name: torch.ones(2, 2), f"{name}x": torch.ones(2)}, tmp_path / "x.safetensors")
    assert said in refused(tmp_path / "x.safetensors", tiny_base)


def test_a_lora_of_an_unknown_kind_is_named_by_its_own_metadata(
    tiny_base: Base, tmp_path: Path
) -> None:
    tensors = {"lora_unet_x.lora_down.weight": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "x.safetensors", {"modelspec.architecture": "flux-1-dev/lora"})
    assert "made for Flux" in refused(tmp_path / "x.safetensors", tiny_base)
    save_file(tensors, tmp_path / "x.safetensors")
    assert "made for another model" in refused(tmp_path / "x.safetensors", tiny_base)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("full_model.ckpt", "a whole Stable Diffusion model, and no LoRA"),
        ("full_model.safetensors", "a whole Stable Diffusion model, and no LoRA"),
        ("ti_two_words.bin", "a textual inversion of 2 words (<a>, <b>)"),
    ],
)
def test_not_a_lora_messages(file: str, said: str, tiny_base: Base) -> None:
    assert said in refused(CASES / "not_a_lora_messages" / file, tiny_base)


@pytest.mark.parametrize(
    ("file", "tokens"), [("ti_3d.safetensors", 2), ("ti_dot.bin", 1), ("ti_paramdict.pt", 2)]
)
def test_textual_inversions_of_every_form_are_read(
    file: str, tokens: int, tiny_base: Base, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="192 wide; .* needs 32"):  # the case's own base is wider
        read_foreign(CASES / "not_a_lora_messages" / file, "toy", tiny_base)
    vectors = torch.ones(tokens, 32)
    if file.endswith("safetensors"):
        save_file({"emb_params": vectors[None]}, tmp_path / file)
    elif "dot" in file:
        torch.save({"my.style v1.5": vectors[0]}, tmp_path / file)
    else:
        words = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
        torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": words},
                   tmp_path / file)  # fmt: skip
    read = read_foreign(tmp_path / file, "toy", tiny_base)
    assert read.embeddings.shape == (tokens, 16, 32) and len(read.token_names) == tokens


@pytest.mark.parametrize("empty", [True, False])
def test_a_mix_of_show_file_without_embeddings_is_a_lora(
    empty: bool, dog: Concept, tiny_base: Base, tmp_path: Path
) -> None:
    content = torch.load(REFERENCE / "dog.pth", weights_only=True)
    content["params"]["new_concept_embedding"].clear()
    if not empty:
        del content["params"]["new_concept_embedding"]
    torch.save(content, tmp_path / "x.pth")
    read = read_foreign(tmp_path / "x.pth", "toy", tiny_base, trigger="sks")
    assert read.token_names == () and read.unet.keys() == dog.unet.keys()
    with pytest.raises(InputError, match="trigger="):
        read_foreign(tmp_path / "x.pth", "toy", tiny_base)


@pytest.mark.parametrize("words", [("<potter>", "<man>"), ("<t9>", "<t10>")])
def test_mos_token_order(words: tuple[str, str], tiny_base: Base, tmp_path: Path) -> None:
    content = torch.load(REFERENCE / "dog.pth", weights_only=True)
    vectors = {word: torch.full((16, 32), float(i)) for i, word in enumerate(words)}
    content["params"]["new_concept_embedding"] = vectors
    torch.save(content, tmp_path / "x.pth")
    read = read_foreign(tmp_path / "x.pth", "toy", tiny_base)
    assert torch.equal(read.embeddings, torch.stack(list(vectors.values())))


def test_lora_alpha_int64(kohya: Path, dog: Concept, tiny_base: Base) -> None:
    with_alpha(kohya, torch.tensor(2, dtype=torch.int64))
    read = read_foreign(kohya, "toy", tiny_base, trigger="sks")
    for path, pair in dog.unet.items():
        assert torch.allclose(read.unet[path].up, pair.up.float() * 2 / len(pair.down))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_values_of_another_type_are_named(dtype: torch.dtype, kohya: Path, tiny_base: Base) -> None:
    tensors = load_file(kohya)
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, kohya)
    assert f"holds {str(dtype).removeprefix('torch.')} values" in refused(kohya, tiny_base)


def test_tensors_without_values_of_their_own_are_refused(tiny_base: Base, tmp_path: Path) -> None:
    name = f"{KOHYA}_attn2_to_k.lora_down.weight"
    for tensor in (torch.ones(2, 32).to_sparse(), torch.ones(2, 32, device="meta")):
        torch.save({name: tensor, f"{name}2": tensor}, tmp_path / "x.pt")
        assert "sparse or empty" in refused(tmp_path / "x.pt", tiny_base)


def test_a_merged_model_of_other_shapes_is_one_line(tiny_base: Base, tmp_path: Path) -> None:
    weights = {f"{MODULE}.attn2.to_k.weight": torch.tensor(1.0)}
    embeddings = {"<a>": torch.ones(16, 32)}
    torch.save({"unet": weights, "new_concept_embedding": embeddings}, tmp_path / "x.pth")
    assert "is (), the base's" in refused(tmp_path / "x.pth", tiny_base)


def test_what_would_change_nothing_is_refused(kohya: Path, tiny_base: Base) -> None:
    save_file({name: torch.zeros_like(t) if "up" in name else t
               for name, t in load_file(kohya).items()}, kohya)  # fmt: skip
    assert "would change nothing: all its values are 0" in refused(kohya, tiny_base)


def test_floats_of_8_bits_are_read(kohya: Path, tiny_base: Base) -> None:
    tensors = load_file(kohya)
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}, kohya)
    assert read_foreign(kohya, "toy", tiny_base, trigger="sks").unet


def test_alpha_zero(kohya: Path, tiny_base: Base, caplog: pytest.LogCaptureFixture) -> None:
    with_alpha(kohya, torch.tensor(0.0), only="attn2_to_k")
    assert read_foreign(kohya, "toy", tiny_base, trigger="sks").unet
    assert "alpha is 0 for 16 of" in caplog.text
    with_alpha(kohya, torch.tensor(0.0))
    assert "would change nothing: its alpha is 0" in refused(kohya, tiny_base)


def peft_file(folder: Path, **settings: object) -> Path:
    """Two maps of rank 4 with halves of ones, and adapter_config.json beside them."""
    tensors = {}
    for module in ("attn1.to_q", "attn2.to_q"):
        tensors[f"base_model.model.{MODULE}.{module}.lora_A.weight"] = torch.ones(4, 16)
        tensors[f"base_model.model.{MODULE}.{module}.lora_B.weight"] = torch.ones(16, 4)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8} | settings))
    return folder / "adapter_model.safetensors"


def scales(concept: Concept) -> list[float]:
    return [float(pair.up[0, 0]) for pair in concept.unet.values()]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [2, 2]),
        ({"use_rslora": True}, [4, 4]),
        ({"alpha_pattern": {"attn1.to_q": 32}}, [8, 2]),
        ({"alpha_pattern": {r".*attn\d.to_q": 32}, "use_rslora": True}, [16, 16]),
        ({"lora_alpha": None}, [1, 1]),
        ({"alpha_pattern": {"attn1.to_q": 0}}, [0, 2]),
    ],
)
@pytest.mark.parametrize("kept", ["beside", "inside", "inside, without a part"])
def test_peft_rslora_alpha_pattern(
    settings: dict[str, object], expected: list[float], kept: str, tiny_base: Base, tmp_path: Path
) -> None:
    file = peft_file(tmp_path, **settings)
    if kept != "beside":
        part = "unet." if kept == "inside" else ""
        (tmp_path / "adapter_config.json").unlink()
        told = {f"{part}{key}": v for key, v in ({"r": 4, "lora_alpha": 8} | settings).items()}
        save_file(load_file(file), file, {"lora_adapter_metadata": json.dumps(told)})
    assert scales(read_foreign(file, "toy", tiny_base, trigger="sks")) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_alpha": "8"}, "lora_alpha '8': must be a number"),
        ({"use_rslora": "yes"}, "use_rslora 'yes': must be true or false"),
        ({"alpha_pattern": [1]}, "alpha_pattern .* must hold names and numbers"),
        ({"alpha_pattern": {"attn1": "x"}}, "must be a number"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        ({"peft_type": "VERA"}, "it is a VERA"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base's own weights"),
        ({"lora_alpha": 0}, "would change nothing"),
        ({"lora_alpha": 1e308}, "too large"),
    ],
)
def test_settings_that_are_not_honoured_are_refused(
    settings: dict[str, object], said: str, tiny_base: Base, tmp_path: Path
) -> None:
    import re

    assert re.search(said, refused(peft_file(tmp_path, **settings), tiny_base))


def test_settings_that_stand_twice_are_refused(tiny_base: Base, tmp_path: Path) -> None:
    file = peft_file(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8, "lora_alpha": 4}')
    assert "adapter_config.json: key 'lora_alpha' stands twice" in refused(file, tiny_base)


@pytest.mark.parametrize("size", [1e6, 1e-9])
def test_values_that_float16_cannot_hold_are_stored_in_float32(
    size: float, dog: Concept, tmp_path: Path
) -> None:
    path, pair = next(iter(dog.unet.items()))
    changed = LowRank(torch.full_like(pair.down.float(), size), pair.up)
    save_concept(replace(dog, unet={**dog.unet, path: changed}), tmp_path / "dog.safetensors")
    read = load_concept(tmp_path / "dog.safetensors").unet[path].down
    assert torch.allclose(read, changed.down) and read.dtype is torch.float32


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale", "x"),
        ("scale", "nan"),
        ("token_names", "[1]"),
        ("token_names", "{"),
        ("name", None),
    ],
)
def test_damaged_metadata_of_our_own_file_is_one_line(
    key: str, value: str | None, dog: Concept, tmp_path: Path
) -> None:
    from safetensors import safe_open

    save_concept(dog, tmp_path / "dog.safetensors")
    with safe_open(tmp_path / "dog.safetensors", framework="pt") as file:
        metadata = file.metadata()
    metadata = {name: told for name, told in metadata.items() if name != key}
    metadata |= {} if value is None else {key: value}
    save_file(load_file(tmp_path / "dog.safetensors"), tmp_path / "dog.safetensors", metadata)
    with pytest.raises(InputError, match="its metadata is damaged"):
        load_concept(tmp_path / "dog.safetensors")


class TestExport:
    @pytest.fixture
    def where(self, dog: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        save_concept(dog, tmp_path / "outputs" / "concepts" / "mini" / "dog.safetensors")
        return tmp_path

    @pytest.mark.parametrize("to", ["./", ".", "there", "there/"])
    def test_export_to_folder(self, to: str, where: Path) -> None:
        (where / "there").mkdir()
        assert main(["export", "dog", "format=kohya", f"to={to}"]) == 0
        assert (where / to / "dog_kohya.safetensors").is_file()
        assert (where / to / "dog_kohya_embedding.safetensors").is_file()

    @pytest.mark.parametrize(
        ("format", "to", "said"),
        [
            ("kohya", "a.pth", "a file for format=kohya ends in .safetensors"),
            ("diffusers", "new", "a folder must be there already"),
            ("mix_of_show", "a.safetensors", "ends in .pth"),
            ("kohya", "file/a.safetensors", "file is a file and no folder"),
        ],
    )
    def test_what_cannot_be_written_is_one_line(
        self, format: str, to: str, said: str, where: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (where / "file").touch()
        assert main(["export", "dog", f"format={format}", f"to={to}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line and {path.name for path in where.iterdir()} == {"file", "outputs"}


def test_rslora_is_what_peft_applies() -> None:
    from toolkit.concept.formats.scale import AdapterScale

    assert AdapterScale(8, root=True).of("x", 4) == 8 / math.sqrt(4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"Unauthorized\n", "a text"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "a web page"),
        (pickle.dumps({"a": print}, protocol=4), "a pickle that"),
    ],
)
def test_what_was_downloaded_instead_of_a_lora_is_named(
    content: bytes, said: str, tiny_base: Base, tmp_path: Path
) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_foreign(file, "toy", tiny_base, trigger="toy")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("use_qalora", True, "a QALoRA"),
        ("alora_invocation_tokens", [1], "an aLoRA"),
        ("layer_replication", [[0, 1]], "repeated layers"),
        ("modules_to_save", ["conv_in"], "whole layers"),
    ],
)
def test_what_peft_does_beside_a_plain_lora_is_refused(key: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        scales_of({}, {"r": 4, "lora_alpha": 4, key: value}, Path("a.safetensors"))


def test_a_textual_inversion_of_other_families_is_named(tiny_base: Base, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"clip_l": torch.ones(1, 16), "t5xxl": torch.ones(1, 64)}, file)
    with pytest.raises(InputError, match="made for Flux or Stable Diffusion 3"):
        read_foreign(file, "toy", tiny_base)
