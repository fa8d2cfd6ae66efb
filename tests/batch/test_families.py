"""The commands on Stable Diffusion XL and 2.x: nothing in them knows the family."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_families import random_concept, write_sd2, write_xl

from toolkit.backbones import load_base
from toolkit.batch.journal import read_entry
from toolkit.cli import main
from toolkit.concept import save_concept

LAYOUT = {
    "name": "pair",
    "prompt": "a dog and a cat",
    "width": 192,
    "height": 128,
    "regions": [
        {"concept": "dog", "prompt": "<dog>, sitting", "box": [0.0, 0.1, 0.45, 1.0]},
        {"concept": "cat", "prompt": "<cat>, sitting", "box": [0.55, 0.2, 1.0, 0.9]},
    ],
}


def command_on(write: Any, folder: Path, layout: dict[str, Any] = LAYOUT) -> tuple[Path, list[str]]:
    """A base of a family, and the command that composes on it."""
    written: Path = write(folder / "base")
    base = load_base(written, "base")
    for seed, name in enumerate(("dog", "cat")):
        save_concept(
            random_concept(base, name, seed), folder / "concepts" / "base" / f"{name}.safetensors"
        )
    (folder / "pair.yaml").write_text(yaml.safe_dump(layout))
    return written, [
        "compose", f"layout={folder / 'pair.yaml'}", f"model.path={written}",
        f"output_dir={folder}", "sampling.steps=2", "trainer=cpu",
    ]  # fmt: skip


@pytest.mark.parametrize("write", [write_xl, write_sd2])
def test_a_picture_is_made_larger_in_tiles_and_its_small_regions_are_refined(
    write: Any, tmp_path: Path
) -> None:
    dog, cat = LAYOUT["regions"]
    small = [{**dog, "box": [0.0, 0.1, 0.3, 0.5]}, cat]
    _, command = command_on(write, tmp_path, {**LAYOUT, "regions": small})
    further = ["sampling.upscale=2", "sampling.tile=256", "sampling.detail=true"]
    large = ["model.width=512", "model.height=512", "method=fast"]
    assert main([*command, *further, *large]) == 0
    (entry,) = map(read_entry, tmp_path.glob("compose/fast+*/pair/0.json"))
    assert entry is not None and entry["status"] == "done"
    assert len(entry["further"]["tiles"]) == 2
    assert [one["concept"] for one in entry["further"]["refined"]] == ["dog"]


@pytest.mark.parametrize("write", [write_xl, write_sd2])
def test_it_composes_once_and_again_when_another_way_of_reading_is_asked_for(
    write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, command = command_on(write, tmp_path)
    base = load_base(folder, "base")
    assert main(command) == 0
    entry = tmp_path / "compose" / "lora_composer" / "pair" / "0.json"
    first = read_entry(entry)
    assert first is not None and first["status"] == "done"
    assert "overrides" not in first["inputs"]["base"]
    capsys.readouterr()
    assert main(command) == 0
    assert read_entry(entry) == first
    assert main([*command, "model.prediction_type=epsilon", "model.guidance_layers=[0]"]) == 2
    guiding = str(base.guiding[0].transformer)
    other = ["model.prediction_type=epsilon", f"model.guidance_layers=[{guiding}]"]
    assert main([*command, *other]) == 0
    second = read_entry(entry)
    assert second is not None and second["sha256"] != first["sha256"]
    said = f"prediction_type=epsilon guidance_layers=[{guiding}]"
    assert second["inputs"]["base"]["overrides"] == said
