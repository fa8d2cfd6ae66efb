"""Overrides are taken as people type them."""

from pathlib import Path

import pytest

from toolkit.config import read_compose, read_sample, read_train
from toolkit.errors import InputError

NASTY = [
    "<dog> on the beach",
    "a (very) good dog",
    "~dog",
    "a=b=c",
    "one, two, three",
    "un chien à la plage, été",
    "${HOME} and ${oc.env:HOME}",
    'it\'s a "dog"',
    "[dog]",
    "{a: b}",
    "null",
    "true",
    "1e-4",
    "a: b # c",
    "",
    " padded ",
    "two\nlines",
    "+x",
    "???",
    "--help=1",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "my dog, (été) ~ = <1>"
    images.mkdir()
    return images


@pytest.mark.parametrize("text", NASTY)
def test_text_is_taken_verbatim(text: str) -> None:
    config = read_sample(["concept=dog", f"prompt={text}", f"negative_prompt={text}"])
    assert (config.prompt, config.negative_prompt) == (text, text)


@pytest.mark.parametrize("text", [text for text in NASTY if text != "[dog]"])
def test_one_sample_prompt_is_one_text(text: str) -> None:
    (config,) = read_train(["concept=dog", f"training.sample_prompts={text}"])
    assert config.training.sample_prompts == (text,)


def test_paths_are_taken_verbatim(folder: Path) -> None:
    (config,) = read_train(
        [
            "concept=rex",
            f"concept.images={folder}",
            "concept.class_word=dog",
            "output_dir=out, (put) = ~ é ${x}",
        ]
    )
    assert config.concept.images == folder
    assert config.concept.class_word == "dog"
    assert config.output_dir == Path("out, (put) = ~ é ${x}")


def test_a_list_of_prompts_keeps_their_characters() -> None:
    (config,) = read_train(["concept=dog", "training.sample_prompts=[<dog> on grass, 7]"])
    assert config.training.sample_prompts == ("<dog> on grass", "7")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", (0,)),
        ("8", tuple(range(8))),
        ("[7,11]", (7, 11)),
        ("7,11", (7, 11)),
        ("[ 7 , 11 ]", (7, 11)),
        ("[8]", (8,)),
        ("7,7", (7,)),
    ],
)
def test_seeds_are_a_count_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert read_compose(["layout=scene1", f"seeds={text}"]).seeds == seeds


@pytest.mark.parametrize("text", ["0", "-1", "a", "[]", "1.5", "true", "", "7,-1", "[7", "null"])
def test_wrong_seeds_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"as seeds=8 or seeds=\[7,11\]"):
        read_compose(["layout=scene1", f"seeds={text}"])


def test_the_default_is_one_seed() -> None:
    assert read_compose(["layout=scene1"]).seeds == (0,)


def test_the_last_of_a_key_wins() -> None:
    config = read_compose(["layout=scene1", "seeds=2", "seeds=4", "layout=scene2"])
    assert len(config.seeds) == 4
    assert [path.name for path in config.layouts] == ["scene2.yaml"]


@pytest.mark.parametrize("text", ["dog,cat", "[dog, cat]", "dog, cat,dog"])
def test_commas_list_concepts(text: str) -> None:
    assert [config.concept.name for config in read_train([f"concept={text}"])] == ["dog", "cat"]


def test_a_layout_file_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mine, too.yaml"
    file.touch()
    assert read_compose([f"layout={file}"]).layouts == (file,)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("training.learning_rate_unet=1e-4", 1e-4),
        ("training.learning_rate_unet=3", 3.0),
        ("training.learning_rate_unet=.5", 0.5),
        ("training.steps=12", 12),
        ("training.mirror=true", True),
        ("training.mirror=false", False),
        ("training.max_embedding_norm=null", None),
    ],
)
def test_values_have_the_schemas_type(argument: str, value: object) -> None:
    (config,) = read_train(["concept=dog", argument])
    name = argument.partition("=")[0].removeprefix("training.")
    read = getattr(config.training, name)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("devices=2", 2),
        ("devices=0,1", "0,1"),
        ("devices=[0,1]", [0, 1]),
        ("precision=16-mixed", "16-mixed"),
        ("max_time=01:12:00:00", "01:12:00:00"),
        ("gradient_clip_val=1e-1", 0.1),
        ("deterministic=true", True),
    ],
)
def test_trainer_arguments_reach_lightning_as_it_takes_them(argument: str, value: object) -> None:
    (config,) = read_train(["concept=dog", f"trainer.{argument}"])
    assert config.trainer.arguments[argument.partition("=")[0]] == value
