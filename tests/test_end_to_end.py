"""What a newcomer does, through the command line, on the embedded base: train, compose, sample."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from toolkit.cli import main
from toolkit.concept import load_concept
from toolkit.concept.stored import images_in
from toolkit.config.lookup import images_of

LAYOUT = """
name: twins
prompt: two dogs on grass
width: 256
height: 128
regions:
  - {concept: rex, prompt: <rex>, box: [0.05, 0.15, 0.45, 0.95]}
  - {concept: rex, prompt: "<rex>, sitting", box: [0.55, 0.15, 0.95, 0.95]}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the clone with images of one's own, and a concept trained on them."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "pictures").mkdir()
    for number, colour in enumerate(("brown", "orange", "tan")):
        Image.new("RGB", (96, 128), colour).save(folder / "pictures" / f"{number}.png")
    code = main(
        [
            "train",
            "concept=rex",
            f"concept.images={folder / 'pictures'}",
            "concept.class_word=dog",
            "training.steps=2",
            "training.batch_size=1",
            "training.sample_every_steps=0",
            "trainer=cpu",
            f"output_dir={folder / 'out'}",
        ]
    )
    assert code == 0
    (folder / "twins.yaml").write_text(LAYOUT)
    return folder


def compose(folder: Path, *arguments: str) -> int:
    return main(
        [
            "compose",
            f"layout={folder / 'twins.yaml'}",
            f"output_dir={folder / 'out'}",
            "sampling.steps=2",
            "trainer=cpu",
            *arguments,
        ]
    )


def test_training_leaves_a_concept_file_that_knows_what_it_is(trained: Path) -> None:
    concept = load_concept(trained / "out" / "concepts" / "mini" / "rex.safetensors")
    assert concept.name == "rex"
    assert concept.class_word == "dog"
    assert concept.base_name == "mini"
    assert len(concept.embeddings) == 2
    assert concept.rank == 4


def test_composing_leaves_a_picture_figures_and_provenance(trained: Path) -> None:
    assert compose(trained) == 0
    folder = trained / "out" / "compose" / "lora_composer" / "twins"
    assert Image.open(folder / "0.png").size == (256, 128)
    assert Image.open(folder / "0_attention.png").width > 500
    assert (folder / "0_losses.png").is_file()
    assert json.loads((folder / "0.json").read_text())["status"] == "done"
    assert (folder.parent / "manifest.parquet").is_file()


def test_composing_again_makes_only_what_is_missing(trained: Path) -> None:
    assert compose(trained, "seeds=2") == 0
    folder = trained / "out" / "compose" / "lora_composer" / "twins"
    before = (folder / "0.png").stat().st_mtime_ns
    (folder / "1.png").unlink()
    assert compose(trained, "seeds=2") == 0
    assert (folder / "0.png").stat().st_mtime_ns == before
    assert (folder / "1.png").is_file()


def test_a_switch_makes_another_picture(trained: Path) -> None:
    assert compose(trained) == 0
    path = trained / "out" / "compose" / "lora_composer" / "twins" / "0.png"
    full = path.read_bytes()
    assert compose(trained, "method.injection=false") == 0
    other = trained / "out" / "compose" / "lora_composer+injection=false" / "twins" / "0.png"
    assert other.read_bytes() != full == path.read_bytes()


def test_one_concept_alone(trained: Path) -> None:
    code = main(
        [
            "sample",
            "concept=rex",
            "prompt=<rex> on the beach",
            "sampling.steps=2",
            "trainer=cpu",
            f"output_dir={trained / 'out'}",
        ]
    )
    assert code == 0
    (picture,) = (trained / "out" / "sample").rglob("0.png")
    assert Image.open(picture).size == (128, 128)


def test_all_concepts_are_checked_before_any_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs" / "concept").mkdir(parents=True)
    for name, images in (("ann", "full"), ("bob", "empty")):
        (tmp_path / "configs" / "concept" / f"{name}.yaml").write_text(
            f"images: {images}\nclass_word: dog\n"
        )
        (tmp_path / images).mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "full" / "0.png")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "concept=ann,bob", "training.steps=1", "trainer=cpu"]) == 2
    assert "holds no images of bob" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def evaluate(folder: Path, *arguments: str) -> int:
    return main(
        [
            "evaluate",
            f"layout={folder / 'twins.yaml'}",
            "methods=lora_composer,prompt_only",
            "seeds=2",
            "judge=imagenet",
            f"output_dir={folder / 'out'}",
            "sampling.steps=2",
            "trainer=cpu",
            *arguments,
        ]
    )


def test_evaluating_composes_what_is_missing_and_leaves_scores_and_pictures(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "configs" / "concept").mkdir(parents=True, exist_ok=True)
    (trained / "configs" / "concept" / "rex.yaml").write_text("images: pictures\nclass_word: dog\n")
    monkeypatch.chdir(trained)
    assert evaluate(trained, "logger=wandb") == 0
    lines = list(csv.DictReader((trained / "out/evaluation/scores.csv").open()))
    expected = {(m, str(s)) for m in ("lora_composer", "prompt_only") for s in (0, 1)}
    assert {(line["method"], line["seed"]) for line in lines} == expected
    assert all(0 < float(line["image_similarity"]) <= 1 for line in lines)
    assert all((line["judge"], line["concept"]) == ("imagenet", "rex") for line in lines)
    assert not any(line["vanished"] or line["placement"] for line in lines)
    sheet = Image.open(trained / "out/evaluation/contact_twins.png")
    assert sheet.width > 2 * 256 and sheet.height > 2 * 128
    assert Image.open(trained / "out/evaluation/scores.png").width > 500
    assert "lora_composer - prompt_only: image similarity" in capsys.readouterr().out
    assert list((trained / "out/evaluation/wandb").glob("offline-run-*/run-*.wandb"))
    first = (trained / "out/evaluation/scores.csv").read_text()
    assert evaluate(trained) == 0
    assert (trained / "out/evaluation/scores.csv").read_text() == first


def test_the_judge_of_cleanliness_makes_what_it_compares_with(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "configs" / "concept").mkdir(parents=True, exist_ok=True)
    (trained / "configs" / "concept" / "rex.yaml").write_text("images: pictures\nclass_word: dog\n")
    monkeypatch.chdir(trained)
    assert evaluate(trained, "judge=clean", "seeds=1") == 0
    lines = list(csv.DictReader((trained / "out/evaluation/scores.csv").open()))
    assert {line["judge"] for line in lines} == {"clean"} and not lines[0]["image_similarity"]
    assert all(float(line["strangeness"]) > 0 and line["spoilt"] in "01" for line in lines)
    assert all(0 <= float(line["outside"]) <= 1 for line in lines)
    assert len(list((trained / "out/compose/empty_scene").rglob("*.png"))) == 1
    assert len(list((trained / "out/compose/single").rglob("*.png"))) >= 4
    shown = capsys.readouterr().out
    assert "judge clean" in shown and "single" not in shown


def test_a_concept_remembers_the_images_it_was_trained_from(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without YAML, and from another folder than it was trained in
    (file,) = (trained / "out/concepts").rglob("rex.safetensors")
    assert images_of("rex", images_in(file)) == trained / "pictures"
    assert load_concept(file).class_word == "dog"


def test_evaluating_without_the_concepts_images_says_where_to_put_them(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (trained / "pictures").rename(trained / "elsewhere")
    try:
        assert evaluate(trained) == 2
    finally:
        (trained / "elsewhere").rename(trained / "pictures")
    said = capsys.readouterr().err
    assert f"({trained / 'pictures'}, which it was trained from, is gone)" in said
    assert "configs/concept/rex.yaml" in said


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (("rex", "max"), (), "); run: toolkit train concept=max"),
        (("0.45, 0.95", "0.06, 0.95"), (), "holds no whole cell"),
        (("256", "250"), (), "multiples of 64"),
        (("two dogs", "grass " * 90), (), "lost: "),
        (("name", "name"), ("trainer.inference_mode=true",), "needs gradients"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_started(
    change: tuple[str, str],
    arguments: tuple[str, ...],
    message: str,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    layout = trained / "wrong.yaml"
    layout.write_text(LAYOUT.replace(*change).replace("twins", "wrong"))
    code = compose(trained, f"layout={layout}", *arguments)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert message in said
    assert not (trained / "out" / "compose" / "lora_composer" / "wrong").exists()
