"""The embedded base is a plain Stable Diffusion folder, small, and true to its own lists."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

MINI = Path(__file__).resolve().parents[2] / "toolkit" / "assets" / "mini"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(MINI, safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.parametrize("size", [(128, 128), (256, 128), (128, 256)])
def test_it_samples_without_our_code(
    pipeline: StableDiffusionPipeline, size: tuple[int, int]
) -> None:
    width, height = size
    picture = pipeline(
        "a cartoon dog on the grass", width=width, height=height, num_inference_steps=2
    ).images[0]
    assert picture.size == size


def test_text_encoder_and_unet_load_in_float32(pipeline: StableDiffusionPipeline) -> None:
    assert pipeline.text_encoder.dtype == torch.float32
    assert pipeline.unet.dtype == torch.float32


def test_transformers_4_finds_what_transformers_5_reads() -> None:
    told = json.loads((MINI / "tokenizer" / "tokenizer.json").read_text())["model"]
    assert json.loads((MINI / "tokenizer" / "vocab.json").read_text()) == told["vocab"]
    merges = (MINI / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    assert [line.split(" ") for line in merges] == told["merges"]
    names = load_file(MINI / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in names)


def test_it_has_sixteen_cross_attention_layers(pipeline: StableDiffusionPipeline) -> None:
    assert sum(name.endswith("attn2.processor") for name in pipeline.unet.attn_processors) == 16


def test_it_is_small_enough_to_travel() -> None:
    files = [file for file in MINI.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 45e6
    assert max(file.stat().st_size for file in files) <= 16e6


def test_what_was_trained_and_what_was_held_out_are_disjoint() -> None:
    lists = json.loads((MINI / "held_out.json").read_text())
    trained, held_out = ({tuple(pair) for pair in lists[key]} for key in ("trained", "held_out"))
    assert not trained & held_out
    assert len(held_out) >= 30
    for name, _ in held_out:
        assert {(name, "cartoon"), (name, "flat")} <= trained
    for class_word in lists["concepts"].values():
        assert (class_word, "3d") in held_out and (class_word, "flat") in trained
