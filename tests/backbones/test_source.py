"""`model.path=` something that is no base: it is said what it is, before anything is loaded."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save_file

import toolkit
from toolkit.backbones import load_base, source
from toolkit.cli import main
from toolkit.config.schema import Folders, ModelConfig
from toolkit.config.untrained import fusing_command, not_trained, training_commands
from toolkit.errors import InputError

CASES = Path(__file__).parent.parent / "cases"
REFERENCE = Path(__file__).parent.parent / "reference" / "model"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a whole base in it."""
    return Path(shutil.copytree(REFERENCE, tmp_path / "model"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def get_session() -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(refuse))

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no network")

    monkeypatch.setattr(source, "get_session", get_session)


def refused(path: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        load_base(path, "x")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("cannot load the base model")
    return str(caught.value)


def set_index(folder: Path, **change: object) -> None:
    index = json.loads((folder / "model_index.json").read_text()) | change
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "family"),
    [
        ({"_class_name": "StableDiffusionXLPipeline",
          "text_encoder": [None, None],
          "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]},
         "a Stable Diffusion XL refiner model"),
        ({"_class_name": "FluxPipeline", "unet": None, "transformer": ["diffusers", "Flux"]},
         "a Flux model"),
        ({"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "SD3"]},
         "a Stable Diffusion 3 model"),
        ({"_class_name": "WanPipeline", "text_encoder": ["transformers", "UMT5EncoderModel"]},
         "a Wan model"),
    ],
)  # fmt: skip
def test_a_folder_of_another_family_is_refused_by_its_name(
    change: dict[str, object], family: str, model: Path
) -> None:
    set_index(model, **change)
    assert f"is {family} (" in refused(model)
    assert "only Stable Diffusion 1.x, 2.x and XL can be used as a base" in refused(model)


def test_a_unet_that_reads_other_text_or_channels_is_refused(model: Path) -> None:
    config = json.loads((model / "unet" / "config.json").read_text())
    (model / "unet" / "config.json").write_text(json.dumps(config | {"cross_attention_dim": 64}))
    assert "model" in refused(model)
    shutil.rmtree(model / "unet")
    shutil.copytree(REFERENCE / "unet", model / "unet")
    text = json.loads((model / "text_encoder" / "config.json").read_text())
    (model / "text_encoder" / "config.json").write_text(json.dumps(text | {"hidden_size": 64}))
    assert "model" in refused(model)


def test_a_folder_that_is_no_model_says_where_one_is(model: Path, tmp_path: Path) -> None:
    assert f"did you mean model.path={model}" in refused(tmp_path)
    assert f"model.path={model}" in refused(model / "unet")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model_index.json", "{", "model_index.json is not JSON"),
        ("unet/config.json", "{", "unet/config.json"),
        ("tokenizer/vocab.json", "{", "cannot load"),
        ("unet/diffusion_pytorch_model.safetensors", "version https://git-lfs.github.com/spec/v1",
         "is a Git LFS pointer: fetch the file: git lfs pull"),
        ("text_encoder/model.safetensors", "<html>", "is a web page: download the file itself"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_one_line(file: str, content: str, said: str, model: Path) -> None:
    (model / file).write_text(content)
    assert said in refused(model)


def test_a_truncated_file_of_weights_is_one_line(model: Path) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "unet" in refused(model)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["conditioner.embedders.0.model.x", "model.diffusion_model.x"], "refiner"),
        (["model.diffusion_model.joint_blocks.0.x"], "Stable Diffusion 3"),
        (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "Flux"),
        (["blocks.0.cross_attn.k.weight"], "Wan"),
        (["encoder.down.0.block.0.conv1.weight"], "an autoencoder, and no whole model"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet, and no whole model"),
        (["something"], "of an unknown kind"),
        (["lora_unet_x.lora_down.weight"], "is a LoRA and no base: toolkit import"),
        (["transformer.joint_blocks.0.x.lora_A.weight"], "is a LoRA and no base, made for"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".SAFETENSORS", ""])
def test_a_single_file_is_told_by_its_tensors(
    names: list[str], said: str, suffix: str, tmp_path: Path
) -> None:
    save_file({name: torch.ones(2) for name in names}, tmp_path / f"base{suffix}")
    assert said in refused(tmp_path / f"base{suffix}")


def test_model_path_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = CASES / "not_a_lora_messages" / "full_model.ckpt"
    where = (f"model.path={checkpoint}", f"output_dir={tmp_path}")
    assert main(["sample", "concept=rex", *where]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is a pickle, as .ckpt files are" in line and ".safetensors" in line


def test_without_a_network_a_hub_id_is_told_at_once(no_network: None) -> None:
    assert "somebody/something is no file or folder here" in refused("somebody/something")
    assert "cannot be reached: check the network" in refused("somebody/something")


def test_without_a_network_a_single_file_says_what_it_needs(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "try_to_load_from_cache", lambda *_: None)
    save_file({"model.diffusion_model.x": torch.ones(2)}, tmp_path / "base.safetensors")
    assert "whose configuration is taken from the hub" in refused(tmp_path / "base.safetensors")


def test_without_a_network_what_was_fetched_before_is_used(
    no_network: None, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = str(model / "model_index.json")
    monkeypatch.setattr(source, "try_to_load_from_cache", lambda *_: index)
    assert load_base("somebody/something", "x").name == "x"


def test_the_advice_for_an_untrained_concept_names_the_same_base(
    tiny_base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (f"model.path={tiny_base_folder}", f"output_dir={tmp_path}")
    assert main(["sample", "concept=rex", *where]) == 2
    advised = capsys.readouterr().err.partition("run: toolkit ")[2].split()
    assert advised == [
        "train", "concept=rex", "concept.images=FOLDER", "concept.class_word=WORD", *where
    ]  # fmt: skip


def test_what_to_type_for_a_concept_and_a_base() -> None:
    hub_id, here = "stable-diffusion-v1-5/stable-diffusion-v1-5", Folders()
    mini = ModelConfig("mini", str(Path(toolkit.__file__).parent / "assets" / "mini"))
    assert training_commands(["dog", "cat"], mini, here) == "toolkit train concept=dog,cat"
    assert training_commands(["dog", "rex", "cat"], mini, here) == (
        "toolkit train concept=dog,cat; "
        "toolkit train concept=rex concept.images=FOLDER concept.class_word=WORD"
    )
    assert fusing_command(["rex"], mini, here) == "toolkit fuse concepts=rex"
    known = training_commands(["dog"], ModelConfig("sd15", hub_id), here)
    assert known == "toolkit train concept=dog model=sd15"
    away = Folders(output_dir=Path("x y"), concepts_dir=Path("mine"))
    mine = training_commands(["dog"], ModelConfig("my model", "/a/my model"), away)
    assert mine.endswith(" concept=dog 'model.path=/a/my model' 'output_dir=x y' concepts_dir=mine")
    named = training_commands(["dog"], ModelConfig("mine", "/a/b"), here)
    assert named == "toolkit train concept=dog model.path=/a/b model.name=mine"


def test_a_concept_that_is_called_nearly_the_same_is_named(tmp_path: Path) -> None:
    kept = tmp_path / "base" / "toadie.safetensors"
    kept.parent.mkdir()
    kept.touch()
    error = not_trained(["todie"], ModelConfig("base", "/a/base"), Folders(concepts_dir=tmp_path))
    assert f"(looked in {kept.parent}, where toadie is)" in str(error)
