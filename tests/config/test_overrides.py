"""Overrides are taken as people type them."""

from pathlib import Path

import pytest

from toolkit.config import (
    read_compose,
    read_evaluate,
    read_export,
    read_import,
    read_sample,
    read_train,
)
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


def test_a_layout_file_that_is_named_without_its_suffix_is_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("park.yaml").touch()
    with pytest.raises(InputError, match=r"for the file that is here: layout=park\.yaml"):
        read_compose(["layout=park"])


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


def test_a_seed_taken_for_a_count_is_told_how_to_be_one() -> None:
    with pytest.raises(InputError, match=r"for one seed write seeds=\[3489273829\]"):
        read_compose(["layout=scene1", "seeds=3489273829"])
    assert read_compose(["layout=scene1", "seeds=[3489273829]"]).seeds == (3489273829,)
    assert len(read_compose(["layout=scene1", "seeds=10000"]).seeds) == 10_000


def test_a_seed_beyond_what_is_stored_is_refused() -> None:
    largest = 2**63 - 1
    assert read_compose(["layout=scene1", f"seeds=[{largest}]"]).seeds == (largest,)
    with pytest.raises(InputError, match=r"the largest seed is 2\*\*63 - 1"):
        read_compose(["layout=scene1", f"seeds=[{largest + 1}]"])
    with pytest.raises(InputError, match=r"training\.seed must be"):
        read_train(["concept=dog", f"training.seed={largest + 1}"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a picture folder, a layout, a LoRA and a base in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("rex", "base"):
        (tmp_path / folder).mkdir()
    for file in ("a.yaml", "b.yaml", "many.jsonl", "x.pth", "emb.pt"):
        (tmp_path / file).touch()
    return tmp_path


def test_a_tilde_is_the_home_folder_in_every_path(home: Path) -> None:
    word = "concept.class_word=dog"
    base = ("model.path=~/base", "output_dir=~/out")
    (trained,) = read_train(["concept=rex", "concept.images=~/rex", word, *base])
    assert trained.concept.images == home / "rex"
    assert (trained.output_dir, trained.model.path) == (home / "out", str(home / "base"))
    assert trained.model.name == "base"
    composed = read_compose(["layout=~/a.yaml,~/b.yaml"])
    assert composed.layouts == (home / "a.yaml", home / "b.yaml")
    assert read_compose(["layouts=~/many.jsonl"]).layouts_file == home / "many.jsonl"
    read = read_import(["~/x.pth", "concept=rex", "embedding=~/emb.pt"])
    assert (read.file, read.embedding) == (home / "x.pth", home / "emb.pt")
    assert read_export(["rex", "format=kohya", "to=~/x.safetensors"]).to == home / "x.safetensors"
    assert read_evaluate(["judge=~/base"]).judges == (str(home / "base"),)


def test_a_tilde_in_a_config_file_is_the_home_folder_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = home / "configs" / "concept" / "rex.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("images: ~/rex\nclass_word: dog\n")
    monkeypatch.chdir(home)
    assert read_train(["concept=rex"])[0].concept.images == home / "rex"


def test_a_tilde_elsewhere_or_of_nobody_stays(home: Path) -> None:
    assert read_export(["rex", "format=kohya", "to=a~/x.safetensors"]).target == Path(
        "a~/x.safetensors"
    )
    config = read_sample(["concept=dog", "output_dir=~nobody-here/x"])
    assert config.output_dir == Path("~nobody-here/x")


def test_an_export_goes_into_a_folder_and_has_its_formats_suffix(home: Path) -> None:
    for to in ("~", "~/", str(home)):
        config = read_export(["rex", "format=kohya", f"to={to}"])
        assert config.target == home / "rex_kohya.safetensors"
    with pytest.raises(InputError, match=r"ends in \.pth"):
        read_export(["rex", "format=mix_of_show", "to=x.safetensors"])
    with pytest.raises(InputError, match="a folder must be there already"):
        read_export(["rex", "format=diffusers", "to=nowhere"])


def test_here_is_a_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for here in (".", "./"):
        config = read_export(["rex", "format=kohya", f"to={here}"])
        assert config.target == Path("rex_kohya.safetensors")


@pytest.mark.parametrize("text", ["<rex> \udce9", "\ud83d"])
def test_text_that_is_not_utf8_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="half of a character"):
        read_sample(["concept=dog", f"prompt={text}"])


@pytest.mark.parametrize("key", ["training.rank", "training.batch_size"])
def test_a_count_that_no_memory_holds_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="at most 4096"):
        read_train(["concept=dog", f"{key}=1000000000"])
