"""What docs/formats.md tells to paste into a program that has diffusers works as it stands."""

import re
from pathlib import Path

import pytest
from PIL import Image

from toolkit import train
from toolkit.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def test_the_snippet_for_diffusers_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = {"training.batch_size": 1, "training.sample_every_steps": 0, "trainer": "cpu"}
    train("dog", steps=1, settings=quick)
    assert main(["export", "dog", "format=diffusers"]) == 0
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert "num_inference_steps=25" in snippet
    names: dict[str, object] = {"__name__": "pasted"}
    exec(snippet.replace("num_inference_steps=25", "num_inference_steps=2"), names)
    with Image.open("dog.png") as picture:
        assert picture.size == (128, 128) and len(set(picture.getdata())) > 100
