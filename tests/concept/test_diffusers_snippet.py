"""What docs/formats.md tells to paste into a program that has diffusers works as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_families import random_concept, write_xl

from toolkit import train
from toolkit.backbones import Part, load_base
from toolkit.cli import main
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def snippets() -> list[str]:
    """That for Stable Diffusion 1.x, and that for XL."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def test_the_snippet_for_xl_calls_the_concept_in_both_text_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_xl(tmp_path / "xl")
    dog = random_concept(load_base(folder, "tinyxl"), "dog", 0)
    write_foreign(dog, Format.DIFFUSERS, Path("outputs/exports/sdxl/dog_diffusers.safetensors"))
    snippet = snippets()[1].replace("stabilityai/stable-diffusion-xl-base-1.0", str(folder))
    names: dict[str, Any] = {"__name__": "pasted"}
    exec(snippet.replace("num_inference_steps=25", "num_inference_steps=2, width=128"), names)
    pipeline = names["pipeline"]
    for part, tokenizer in (
        (Part.TEXT_ENCODER, pipeline.tokenizer),
        (Part.TEXT_ENCODER_2, pipeline.tokenizer_2),
    ):
        prompt = pipeline.maybe_convert_prompt("<dog>", tokenizer)
        assert prompt == "<dog> <dog>_1"
        ids = tokenizer(prompt).input_ids[1:3]
        rows = getattr(pipeline, part).get_input_embeddings().weight[ids]
        assert torch.allclose(rows, dog.token_embeddings[part].mean(dim=1))
    assert Path("dog.png").is_file()


def test_the_snippet_for_diffusers_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = {"training.batch_size": 1, "training.sample_every_steps": 0, "trainer": "cpu"}
    train("dog", steps=1, settings=quick)
    assert main(["export", "dog", "format=diffusers"]) == 0
    snippet = snippets()[0]
    assert "num_inference_steps=25" in snippet
    names: dict[str, object] = {"__name__": "pasted"}
    exec(snippet.replace("num_inference_steps=25", "num_inference_steps=2"), names)
    with Image.open("dog.png") as picture:
        assert picture.size == (128, 128) and len(set(picture.getdata())) > 100
