"""Wrong input is named in one line, with what was probably meant."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from toolkit.config import read_compose, read_sample, read_train
from toolkit.config.commands import read_concepts, read_rate
from toolkit.errors import InputError

SCENE = "layout=scene1"


@pytest.mark.parametrize(
    ("read", "arguments", "said"),
    [
        (read_train, [], "concept=NAME"),
        (read_train, ["concept=dgo"], "nearest: dog"),
        (read_train, ["concept=dgo"], "concept.images=FOLDER concept.class_word=WORD"),
        (read_train, ["concpt=dog"], "nearest: concept"),
        (read_train, ["concept=dog,"], "a name is missing"),
        (read_train, ["concept=dog", "training.stepz=1"], "training.steps"),
        (read_train, ["concept=dog", "steps=1"], "training.steps"),
        (read_train, ["concept=dog", "devices=1"], "trainer.devices"),
        (read_train, ["concept=dog", "--concept=cat"], "nearest: concept"),
        (read_train, ["dog"], "expected key=value, got 'dog'"),
        (read_train, ["concept=dog", "training.steps=ten"], "a whole number, as training.steps=4"),
        (read_train, ["concept=dog", "training.steps=1.5"], "a whole number"),
        (read_train, ["concept=dog", "training.steps=0"], "training.steps must be at least 1"),
        (read_train, ["concept=dog", "training.mirror=yes"], "true or false"),
        (read_train, ["concept=dog", "training.learning_rate_unet=x"], "a number, as"),
        (read_train, ["concept=dog", "training.learning_rate_unet=[1]"], "a number, as"),
        (read_train, ["concept=dog", "concept.images=/no/such"], "no folder '/no/such'"),
        (read_train, ["concept=dog", "concept.name=x"], "unknown key concept.name"),
        (read_train, ["concept=rex", "concept.images=/tmp"], "class_word is missing"),
        (read_train, ["concept=dog", "output_dir="], "output_dir=: expected a path"),
        (read_train, ["concept=dog,cat", "concept.images=/tmp"], "for one concept, got dog, cat"),
        (read_train, ["concept=dog", "model=sd51"], "nearest: sd21, sd15"),
        (read_train, ["concept=dog", "model=../model/mini"], "there is no model="),
        (read_train, ["concept=dog", "model.path=/no/such"], "no such file or folder"),
        (read_train, ["concept=dog", "model.dtype=half"], "float32, float16, bfloat16"),
        (read_train, ["concept=dog", "trainer=gpus"], "nearest: gpu"),
        (read_train, ["concept=dog", "trainer.device=2"], "nearest: trainer.devices"),
        (read_train, ["concept=dog", "trainer.max_steps=2"], "use training.steps="),
        (read_train, ["concept=dog", "logger=wanb"], "nearest: wandb"),
        (read_train, ["concept=dog", "seeds=2"], "nearest: training.seed"),
        (read_train, ["concept=dog", "training.stepz=2"], "nearest: training.steps,"),
        (read_compose, [], "layout=NAME or layouts=FILE.jsonl"),
        (read_compose, ["layout=scene11"], "nearest: scene1"),
        (read_compose, ["layout=mine.yaml"], "there is no such file"),
        (read_compose, ["layout=mine.jsonl"], "layouts=mine.jsonl"),
        (read_compose, ["layouts=mine.jsonl"], "there is no such file"),
        (read_compose, [SCENE, "method=lora_compose"], "nearest: lora_composer"),
        (read_compose, [SCENE, "method.fil_loss=false"], "nearest: method.fill_loss"),
        (read_compose, [SCENE, "method.preset=papr"], "published, paper"),
        (read_compose, [SCENE, "batch_size=0"], "batch_size must be at least 1"),
        (read_compose, [SCENE, "sampling.steps=0"], "sampling.steps must be at least 1"),
        (read_compose, [SCENE, "sampling.steps=1001"], "at most 1000"),
        (read_compose, [SCENE, "sampling.guidance_scale=1e999"], "expected a finite number"),
        (read_compose, [SCENE, "logger=wandb", "logger.project=a/b"], "W&B takes 1 to 128"),
        (read_compose, [SCENE, "method.name=../x"], "letters, digits"),
        (read_compose, ["layout=" + "a" * 300 + ".yaml"], "there is no such file"),
        (read_compose, [SCENE, "method=" + "a" * 300], "there is no method="),
        (
            read_train,
            ["concept=" + "a" * 300, "concept.images=/tmp", "concept.class_word=dog"],
            "too long to be the name of a file",
        ),
        (read_train, ["concept=dog", "concept.images=/" + "a" * 300], "no folder"),
        (read_train, ["concept=dog", "model.path=/" + "a" * 300], "no such file or folder"),
        (read_sample, [], "concept=NAME (toolkit concepts lists"),
        (read_compose, [SCENE, "width=512"], "how large a picture is stands in its layout"),
        (read_train, ["concept＝dog"], "got 'concept＝dog': ＝ is no ="),
        (read_concepts, ["trainers=1"], "trainers (valid: concepts_dir, output_dir)"),
        (read_rate, ["methods=balanced", SCENE], "methods=balanced: name two or more"),
        (read_sample, ["concept=dog,cat"], "one concept"),
        (read_sample, ["concept=a/b"], "letters, digits"),
        (
            read_train,
            ["concept=../x", "concept.images=/tmp", "concept.class_word=dog"],
            "letters, digits",
        ),
        (read_sample, ["concept=dog", "promt=x"], "nearest: prompt"),
    ],
)
def test_the_message_names_what_was_meant(
    read: Callable[[Sequence[str]], object], arguments: list[str], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("read", "arguments", "path"),
    [
        (read_train, ["concept=dog", "training.steps=ten"], "training.steps"),
        (read_train, ["concept=dog", "training.steps=0"], "training.steps"),
        (read_train, ["concept=dog", "trainer.max_steps=2"], "trainer.max_steps"),
        (read_train, ["concept=dog", "trainer.device=2"], "trainer.device"),
        (read_train, ["concept=dog", "concept.images=/no/such"], "concept.images"),
        (read_train, ["concept=dog", "concept.class_word=<dog>"], "concept.class_word"),
        (read_train, ["concept=rex", "concept.images=/tmp"], "concept.class_word"),
        (read_train, ["concept=dog", "model.path=/no/such"], "model.path"),
        (read_compose, [SCENE, "method.fill_loss=maybe"], "method.fill_loss"),
        (read_compose, [SCENE, "method.name=../x"], "method.name"),
        (read_compose, [SCENE, "batch_size=0"], "batch_size"),
        (read_compose, [SCENE, "seeds=0"], "seeds"),
        (read_sample, ["concept=a/b"], "concept"),
    ],
)
def test_the_error_carries_the_key(
    read: Callable[[Sequence[str]], object], arguments: list[str], path: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(arguments)
    assert caught.value.path == path


def test_both_kinds_of_layouts_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.touch()
    with pytest.raises(InputError, match="layout=NAME or layouts="):
        read_compose([SCENE, f"layouts={file}"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{path: mini, widht: 3}", "nearest: width"),
        ("{path: mini, width: wide}", "model.width=wide: expected a whole number"),
        ("{path: mini, training: {stepz: 3}}", "nearest: steps"),
        ("{width: 3}", "model.path is missing"),
        ("[", "model=own): "),
        ("{path: '${nothing}'}", "model=own): "),
    ],
)
def test_ones_own_config_file_is_checked(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "configs" / "model" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        read_train(["concept=dog", "model=own"])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.learning_rate_unet", "1e300"),
        ("training.noise_offset", "9" * 400),
        ("training.steps", "99999999999999999999"),
        ("training.max_embedding_norm", "-1"),
        ("model.name", "x" * 250),
        ("concept.class_word", "<dog>"),
    ],
)
def test_what_would_only_fail_later_is_refused_when_it_is_read(key: str, value: str) -> None:
    with pytest.raises(InputError, match=key):
        read_train(["concept=dog", f"{key}={value}"])


def test_a_url_is_no_path() -> None:
    with pytest.raises(InputError, match="output_dir=s3://bucket/x: expected a path on this"):
        read_train(["concept=dog", "output_dir=s3://bucket/x"])


def test_one_layout_given_as_many_says_how_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a")
    with pytest.raises(InputError, match="is given with layout="):
        read_compose([f"layouts={tmp_path / 'a.yaml'}"])
