"""What a base's files tell without torch is what the loaded base says of itself."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import toolkit
from toolkit.backbones import load_base
from toolkit.backbones.unet.configuration import Configuration, read_configuration

MINI = Path(toolkit.__file__).parent / "assets" / "mini"
REFERENCE = Path(__file__).parent.parent / "reference" / "model"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REFERENCE, tmp_path / "model"))


def read(folder: Path) -> Configuration:
    found = read_configuration(str(folder))
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("folder", [MINI, REFERENCE], ids=["embedded", "reference"])
def test_files_tell_the_identity_and_sizes_of_the_loaded_base(folder: Path, dtype: str) -> None:
    base = load_base(folder, "b", 2 if folder is MINI else 4, dtype=getattr(torch, dtype))
    assert read(folder).identity("b", dtype) == base.identity
    assert read(folder).sizes(base.guidance_downscale) == base.sizes


def test_another_value_is_another_identity(model: Path) -> None:
    before = read(model).identity("b", "float32")
    tensors = load_file(model / UNET)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] += 1
    save_file(tensors, model / UNET)
    after = read(model).identity("b", "float32")
    assert before is not None and after is not None
    assert before.weights != after.weights and before.architecture == after.architecture
    assert after == load_base(model, "b").identity


def test_weights_stored_as_bfloat16_are_told_as_well(model: Path) -> None:
    save_file({n: t.bfloat16() for n, t in load_file(model / UNET).items()}, model / UNET)
    assert read(model).identity("b", "float32") == load_base(model, "b").identity


def test_what_files_do_not_tell_is_left_to_the_loaded_base(model: Path) -> None:
    weights = (model / UNET).read_bytes()
    (model / UNET).write_bytes(weights[:-10])
    assert read(model).identity("b", "float32") is None
    (model / UNET).write_bytes(weights)
    (model / f"{UNET}.index.json").write_text("{}")  # a second choice of weights
    assert read(model).identity("b", "float32") is None
    (model / f"{UNET}.index.json").unlink()
    config = json.loads((model / "unet" / "config.json").read_text())
    del config["attention_head_dim"]
    (model / "unet" / "config.json").write_text(json.dumps(config))
    assert read(model).identity("b", "float32") is None
    (model / UNET).rename(model / "unet" / "diffusion_pytorch_model.bin")
    assert read(model).identity("b", "float32") is None


def test_a_hub_id_and_a_file_tell_nothing_yet(model: Path) -> None:
    assert read_configuration("somebody/something") is None
    assert read_configuration(str(model / UNET)) is None
