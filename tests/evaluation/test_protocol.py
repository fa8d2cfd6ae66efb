"""A protocol from end to end on tiny models, and what the shipped ones ask for."""

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from diffusers import T2IAdapter
from evaluations import Work
from PIL import Image

from toolkit.backbones import load_base
from toolkit.cli import main
from toolkit.config.lookup import SHIPPED
from toolkit.config.protocol import read_protocol
from toolkit.errors import InputError
from toolkit.evaluation.paper_table import cell_of
from toolkit.evaluation.plan import CONDITIONED, check_plan, make_plan
from toolkit.evaluation.table import ScoreRow
from toolkit.layout.layout import Layout, Region

PROTOCOL = """
judge: imagenet
images: 2
seconds_per_picture: 1800
concepts: {theirs: dog}
styles:
  - {name: drawn, model: tiny_a, settings: [{layouts: own.jsonl, random_seed: 14}]}
  - {name: real, model: tiny_b, settings: [{layouts: own.jsonl}]}
tables:
  - name: table1
    rows:
      - {name: Plain, method: prompt_only}
      - {name: Door, pictures: door, styles: [real]}
      - {name: Merged*, method: merge, conditions: true}
  - name: table2
    concepts: [3]
    rows:
      - {name: all, method: prompt_only}
      - {name: none, method: regional_prompt}
  - name: table3
    ratings: true
    rows:
      - {name: Plain, method: prompt_only}
      - {name: Door, pictures: door, styles: [real]}
"""


def layout(name: str, concepts: list[str]) -> dict[str, object]:
    width = 1 / len(concepts)
    regions = [
        {"concept": c, "prompt": f"<{c}>", "box": [i * width, 0, (i + 1) * width, 1]}
        for i, c in enumerate(concepts)
    ]
    return {"name": name, "prompt": "grass", "width": 192, "height": 64, "regions": regions}


@pytest.fixture
def protocol(work: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A folder with everything that the protocol above needs."""
    folder = work.folder
    for name in ("tiny_a", "tiny_b"):
        file = folder / f"configs/model/{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"defaults: [sd15, _self_]\npath: {work.base}\nwidth: 64\nheight: 64\n")
        shutil.copytree(folder / "out/concepts/tiny", folder / f"out/concepts/{name}")
    widths = list(load_base(work.base, "tiny").unet.config.block_out_channels)
    T2IAdapter(in_channels=3, channels=widths, num_res_blocks=1).save_pretrained(folder / "adapter")
    Image.effect_noise((192, 64), 90).convert("RGB").save(folder / "pose.png")
    two = layout("two", ["theirs", "cat"])
    two["conditions"] = [{"type": "t2i_adapter", "model": "adapter", "image": "pose.png"}]
    three = layout("three", ["theirs", "cat", "fox"])
    place = folder / "configs/protocol"
    place.mkdir(parents=True)
    (place / "tiny.yaml").write_text(PROTOCOL)
    (place / "own.jsonl").write_text(f"{json.dumps(two)}\n{json.dumps(three)}\n")
    monkeypatch.chdir(folder)
    return work


def evaluate(work: Work, *arguments: str) -> int:
    typed = ("protocol=tiny", "sampling.steps=2", "trainer=cpu", *arguments)
    return main(["evaluate", *typed, f"output_dir={work.folder / 'out'}"])


def test_a_protocol_runs_from_end_to_end(
    protocol: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("two", "three"):
        for seed in (0, 1):
            path = protocol.folder / "door" / name / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (192, 64), "tan").save(path)
    assert evaluate(protocol, f"pictures.door={protocol.folder / 'door'}") == 0
    shown = capsys.readouterr().out
    assert "table1, judge imagenet" in shown and "drawn-I" in shown and "mean-T" in shown
    door = next(line for line in shown.splitlines() if line.startswith("  Door"))
    assert door.split()[1:3] == ["-", "-"] and float(door.split()[3]) > 0
    folder = protocol.folder / "out/evaluation/tiny"
    table1, table2 = (
        [*csv.DictReader((folder / f"{name}.csv").open())] for name in ("table1", "table2")
    )
    assert [(row["row"], row["style"], row["pictures"]) for row in table1] == [
        ("Plain", "drawn", "4"), ("Plain", "real", "4"), ("Door", "real", "4"),
        ("Merged*", "drawn", "2"), ("Merged*", "real", "2"),
    ]  # fmt: skip
    assert {row["pictures"] for row in table2} == {"2"} and len(table2) == 4
    assert all(0 < float(row["image_similarity"]) <= 1 for row in table1 + table2)
    with (folder / "scores.csv").open() as file:
        scores = [*csv.DictReader(file)]
    drawn = {row["seed"] for row in scores if row["model"] == "tiny_a"}
    random.seed(14)
    assert drawn == {str(random.randint(1, 20000)) for _ in range(2)}
    conditioned = {row["method"] for row in scores if row["layout"].endswith(CONDITIONED)}
    assert conditioned == {"merge"}
    assert (folder / "real/contact_three.png").is_file()
    assert "table3" not in shown and not (folder / "table3.csv").exists()  # nobody has answered


def test_a_table_of_what_people_said(protocol: Work, capsys: pytest.CaptureFixture[str]) -> None:
    answers = protocol.folder / "out/evaluation/ratings.csv"
    answers.parent.mkdir(parents=True)
    answers.write_text(
        "rater,layout,seed,method,text,subjects\n"
        "a,two,0,prompt_only,5,1\nb,two,0,prompt_only,3,1\na,two,1,prompt_only,2,3\n"
        "a,two,0,door,4,5\na,elsewhere,0,door,1,1\na,two,0,merge,1,1\n"
    )
    assert evaluate(protocol, "seeds=1") == 0
    shown = capsys.readouterr().out
    assert "table3, people (1 to 5)" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line}
    assert rows["Plain"] == ["3.00", "2.00", "2", "3"]  # of pictures: (5 + 3) / 2 and 2
    assert rows["Door"] == ["4.00", "5.00", "1", "1"]
    with (protocol.folder / "out/evaluation/tiny/table3.csv").open() as file:
        written = {row["row"]: row for row in csv.DictReader(file)}
    assert (written["Plain"]["text"], written["Plain"]["text_low"]) == ("3.0000", "2.0000")


def test_all_that_is_missing_is_said_at_once_with_the_hours(
    protocol: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    (protocol.folder / "pose.png").unlink()
    (protocol.folder / "out/concepts/tiny_b/cat.safetensors").unlink()
    shutil.move("configs/protocol/own.jsonl", "whole.jsonl")
    text = Path("whole.jsonl").read_text().replace("fox", "nobody")
    Path("configs/protocol/own.jsonl").write_text(text)
    assert evaluate(protocol) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    for part in (
        "no images of nobody",
        "not trained for drawn: toolkit train concept=nobody",
        "not trained for real: toolkit train concept=cat model=tiny_b",
        "toolkit train concept=nobody concept.images=FOLDER concept.class_word=WORD model=tiny_b",
        "no images of conditions: pose.png",
        "16 of 16 pictures to compose, about 8.0 hours (1800 seconds a picture)",
    ):
        assert part in said
    assert not (protocol.folder / "out/evaluation").exists()


def test_what_is_missing_is_said_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from toolkit.cli import main; code = main(['evaluate', 'protocol=paper']); "
        "assert code == 2 and not {'torch', 'transformers', 'lightning'} & set(sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0 and "8,400 of 8,400 pictures" in ended.stderr, ended.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_not_counted_as_left(protocol: Work) -> None:
    assert evaluate(protocol, "seeds=1") == 0
    typed = {"protocol": "tiny", "output_dir": str(protocol.folder / "out")}
    estimate = check_plan(make_plan(typed, protocol.folder / "lines"))
    assert estimate.startswith("8 of 16 pictures to compose, about 0.0 hours")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: merge,", "method: merge, pictures: x,", "either a method or pictures"),
        ("method: merge", "method: nosuch", "there is no method=nosuch"),
        ("model: tiny_b", "model: nosuch", "there is no model=nosuch"),
        ("images: 2", "image: 2", "unknown key image"),
        ("own.jsonl}", "no.jsonl}", "there is no file"),
    ],
)
def test_a_wrong_protocol_is_told(old: str, new: str, message: str, protocol: Work) -> None:
    file = Path("configs/protocol/tiny.yaml")
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        make_plan({"protocol": "tiny"}, protocol.folder / "lines")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("methods", "methods=: protocol=tiny says this itself"),
        ("pictures.gate", "pictures.gate: protocol=tiny has rows of pictures for door"),
        ("logger", "a protocol leaves files only"),
    ],
)
def test_what_a_protocol_does_not_take_is_told(key: str, message: str, protocol: Work) -> None:
    with pytest.raises(InputError, match=message):
        make_plan({"protocol": "tiny", key: "wandb"}, protocol.folder / "lines")


def test_a_row_of_pictures_that_are_not_given_stays_empty(protocol: Work) -> None:
    typed = {"protocol": "tiny", "output_dir": str(protocol.folder / "out")}
    plan = make_plan(typed, protocol.folder / "lines")
    assert not any(part.config.pictures for part in plan.parts)
    assert dict(plan.protocol.pictures) == {"door": "Door"}


def test_what_a_method_lacks_is_said_with_the_rest(protocol: Work) -> None:
    file = Path("configs/protocol/tiny.yaml")
    text = file.read_text().replace("method: merge,", "method: paint_by_example,")
    file.write_text(text.replace("method: regional_prompt", "method: cones2"))
    typed = {"protocol": "tiny", "output_dir": str(protocol.folder / "out")}
    with pytest.raises(InputError) as told:
        check_plan(make_plan(typed, protocol.folder / "lines"))
    assert "toolkit train recipe=cones2 concept=dog,cat,fox" in str(told.value)
    assert "needs its checkpoint: painter.path=" in str(told.value)


@pytest.mark.parametrize(("name", "images"), [("paper", 50), ("mini", 2)])
def test_shipped_protocols_are_two_styles_of_three_settings_of_two_to_five(
    name: str, images: int, tmp_path: Path
) -> None:
    plan = make_plan({"protocol": name}, tmp_path)
    assert plan.protocol.images == images and len(plan.layouts) == 2
    for layouts in plan.layouts.values():
        counts = [len(one.concepts) for one in layouts if not one.name.endswith(CONDITIONED)]
        assert sorted(counts) == [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    ablated = next(table for table in plan.protocol.tables if table.name == "table2")
    assert ablated.concepts == (4, 5) and len(ablated.rows) == 4


def test_the_papers_protocol_has_its_canvases_concepts_and_seeds(tmp_path: Path) -> None:
    plan = make_plan({"protocol": "paper"}, tmp_path)
    sizes = {style: {(one.width, one.height) for one in own} for style, own in plan.layouts.items()}
    assert sizes == {"anime": {(1024, 512)}, "real": {(1024, 768)}}
    assert (
        len({name for own in plan.layouts.values() for one in own for name in one.concepts}) == 16
    )
    published = {  # of the released examples: each lies among the 50 of its settings
        "paper_anime_2_3": {1977, 3295, 6738, 15025},
        "paper_anime_4_5": {3225, 3251, 11441, 16849, 17308},
        "paper_real_people": {3501, 3880, 8875, 9023, 15946, 18067},
        "paper_real_scenes": {1174, 2343, 6433, 10966, 15958, 19569},
    }
    settings = [setting for style in plan.protocol.styles for setting in style.settings]
    assert {setting.layouts for setting in settings} == {f"{name}.jsonl" for name in published}
    for setting in settings:
        seeds = setting.seeds(50)
        assert len(set(seeds)) == 50
        assert published[setting.layouts.removesuffix(".jsonl")] <= set(seeds)
    assert all((SHIPPED / "configs/protocol" / setting.layouts).is_file() for setting in settings)


def test_a_cell_is_averaged_as_the_papers_code_averages() -> None:
    """Pictures, then subjects, then settings, then numbers of concepts: each counts the same."""

    def made(name: str, count: int) -> Layout:
        regions = [Region(f"c{i}", f"<c{i}>", (0.0, 0.0, 1.0, 1.0)) for i in range(count)]
        return Layout(name, "x", 64, 64, tuple(regions))

    def row(layout: str, seed: int, concept: str, value: float) -> ScoreRow:
        return ScoreRow("m", "b", layout, seed, concept, "clip", 2, value, 2 * value)

    rows = [
        row("a", 0, "c0", 0.2), row("a", 1, "c0", 0.4), row("a", 0, "c1", 0.5),
        row("b", 0, "c0", 0.8), row("b", 0, "c1", 0.8),
        row("t", 0, "c0", 0.1), row("t", 0, "c1", 0.1), row("t", 0, "c2", 0.4),
    ]  # fmt: skip
    cell = cell_of(rows, {"a": made("a", 2), "b": made("b", 2), "t": made("t", 3)})
    expected = (((0.3 + 0.5) / 2 + 0.8) / 2 + 0.2) / 2
    assert cell.image == pytest.approx(expected) and cell.text == pytest.approx(2 * expected)


def test_protocols_are_read_by_name() -> None:
    assert read_protocol("paper").first_judge == "clip"
    with pytest.raises(InputError, match="nearest: paper"):
        read_protocol("papers")
