"""The door for other programs: a script reads the layouts, and what it makes is scored."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from evaluations import Work
from PIL import Image

from toolkit.cli import main
from toolkit.evaluation.exported_layouts import in_class_words
from toolkit.evaluation.pixels import crop
from toolkit.layout.pixels import pixel_box

SCRIPT = """
import json, sys
from pathlib import Path
from PIL import Image
asked = json.loads(Path(sys.argv[1]).read_text())
for layout in asked["layouts"]:
    for seed in asked["seeds"]:
        picture = Image.new("RGB", (layout["width"], layout["height"]), "green")
        for region in layout["regions"]:
            left, top, right, bottom = region["box_pixels"]
            images = asked["concepts"][region["concept"]]["images"]
            shown = Image.open(images[seed % len(images)]["image"]).convert("RGB")
            picture.paste(shown.resize((right - left, bottom - top)), (left, top))
        path = Path(sys.argv[2], layout["name"], f"{seed}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
"""


def export(work: Work, *arguments: str) -> Path:
    layouts = ",".join(str(work.folder / f"{name}.yaml") for name in ("one", "two"))
    out = work.folder / "layouts.json"
    typed = ("export", "format=json", f"layout={layouts}", "seeds=2", f"out={out}", *arguments)
    assert work.run("layouts", *typed) == 0
    return out


def test_a_short_script_makes_pictures_that_are_scored(work: Work) -> None:
    out = export(work)
    theirs = work.folder / "theirs"
    subprocess.run([sys.executable, "-c", SCRIPT, str(out), str(theirs)], check=True)
    typed = (f"pictures.theirs={theirs}", f"pictures.plain={work.paint('plain')}")
    assert work.evaluate("methods=[]", *typed) == 0
    found = {
        name: [float(row["image_similarity"]) for row in work.rows if row["method"] == name]
        for name in ("theirs", "plain")
    }
    assert min(found["theirs"]) > max(found["plain"])


def test_what_is_exported_is_all_that_another_program_needs(work: Work) -> None:
    asked = json.loads(export(work).read_text())
    one, two = asked["layouts"]
    assert (one["name"], two["name"], asked["seeds"], asked["version"]) == ("one", "two", [0, 1], 1)
    dog, cat = one["regions"]
    assert dog["box_pixels"] == [0, 0, 64, 64] and cat["box"] == [0.5, 0.0, 1.0, 1.0]
    assert cat["prompt"] == "<cat>, sitting" and cat["prompt_in_class_words"] == "cat, sitting"
    concept = asked["concepts"]["dog"]
    assert concept["class_word"] == "dog" and Path(concept["file"]).is_file()
    assert all(Path(image["image"]).is_file() for image in concept["images"])
    assert all(Path(image["mask"]).is_file() for image in concept["images"])


def test_untrained_concepts_are_exported_by_their_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["layouts", "export", "layout=city1"]) == 0
    asked = json.loads((tmp_path / "outputs/layouts.json").read_text())
    assert asked["concepts"]["city"]["file"] is None
    assert asked["layouts"][0]["prompt_in_class_words"] == "a robot and a cat in a city"


def test_pixels_are_those_that_are_scored() -> None:
    box = (0.05, 0.15, 0.455, 0.951)
    left, top, right, bottom = pixel_box(box, 250, 130)
    assert crop(Image.new("RGB", (250, 130)), box).size == (right - left, bottom - top)


def test_tokens_that_are_written_out_are_one_class_word() -> None:
    words = {"dog": "big dog", "do": "wrong"}
    assert in_class_words("a <dog1> <dog2>, a <dog>", words) == "a big dog, a big dog"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["export", "format=xml"], "format=xml: expected one of json"),
        (["import"], "it knows export"),
        (["export", "out=here.txt"], "ends in .json"),
        (["export", "layout=nosuch"], "there is no layout=nosuch"),
    ],
)
def test_what_cannot_be_exported_is_told(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["layouts", *typed]) == 2
    assert message in capsys.readouterr().err


def test_a_concept_without_images_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = tmp_path / "mine.yaml"
    layout.write_text(
        "name: mine\nprompt: grass\nwidth: 64\nheight: 64\nregions:\n"
        "  - {concept: rex, prompt: <rex>, box: [0, 0, 1, 1]}\n"
    )
    assert main(["layouts", "export", f"layout={layout}", f"output_dir={tmp_path}"]) == 2
    assert "no images of rex" in capsys.readouterr().err
    assert not (tmp_path / "layouts.json").exists()
