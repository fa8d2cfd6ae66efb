"""Commands end with the right exit code and say why, before anything slow is imported."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit import cli
from toolkit.config import ComposeConfig, SampleConfig, TrainConfig
from toolkit.errors import InputError, RunError, Stopped

Work = Callable[[Any], Any]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], list[Any]]:
    """Puts a function in the place of what a command calls; gives the list of its configs."""

    def replace(function: Work) -> list[Any]:
        seen: list[Any] = []

        def record(config: Any, *given: Any) -> Any:
            seen.append(config)
            return function(config)

        monkeypatch.setattr(cli, "_light", lambda module, name: lambda config, *given: None)
        monkeypatch.setattr(cli, "_entry", lambda module, name: record)
        return seen

    return replace


def fails(error: BaseException) -> Work:
    def function(config: Any) -> Any:
        raise error

    return function


def test_train_trains_each_concept_in_turn(
    work: Callable[[Work], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = work(lambda config: Path(f"{config.concept.name}.safetensors"))
    assert cli.main(["train", "concept=dog,cat"]) == 0
    assert all(type(config) is TrainConfig for config in seen)
    assert [config.concept.name for config in seen] == ["dog", "cat"]
    assert capsys.readouterr().out.split("\n")[:2] == [
        "dog: dog.safetensors",
        "cat: cat.safetensors",
    ]


def test_wrong_input_found_after_a_concept_was_trained_is_a_failure_not_a_refusal(
    work: Callable[[Work], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: TrainConfig) -> Path:
        if config.concept.name == "cat":
            raise InputError("a caption is too long")
        return Path("x")

    seen = work(train)
    assert cli.main(["train", "concept=dog,cat,fox"]) == 1
    assert [config.concept.name for config in seen] == ["dog", "cat", "fox"]
    assert "cat: a caption is too long" in capsys.readouterr().err


def test_train_goes_on_when_one_concept_fails(
    work: Callable[[Work], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: TrainConfig) -> Path:
        if config.concept.name == "dog":
            raise RunError("the loss is NaN")
        return Path("x")

    seen = work(train)
    assert cli.main(["train", "concept=dog,cat"]) == 1
    assert len(seen) == 2
    assert "dog: the loss is NaN" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1])
def test_compose_ends_with_its_batchs_code(code: int, work: Callable[[Work], list[Any]]) -> None:
    seen = work(lambda config: code)
    assert cli.main(["compose", "layout=scene1"]) == code
    assert [type(config) for config in seen] == [ComposeConfig]


def test_sample_gets_its_prompt(work: Callable[[Work], list[Any]]) -> None:
    seen = work(lambda config: 0)
    assert cli.main(["sample", "concept=dog", "prompt=<dog> on the beach"]) == 0
    assert type(seen[0]) is SampleConfig and seen[0].prompt == "<dog> on the beach"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no such\nconcept"), 2),
        (RunError("the loss is NaN"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1),
        (MemoryError(), 1),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "out/x.png"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException,
    code: int,
    work: Callable[[Work], list[Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    work(fails(error))
    assert cli.main(["compose", "layout=scene1"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith("toolkit: ") and shown.count("\n") == 1


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "x"), KeyError("x")])
def test_a_bug_is_not_hidden_and_asked_to_be_reported(
    error: Exception, work: Callable[[Work], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    work(fails(error))
    with pytest.raises(type(error)):
        cli.main(["compose", "layout=scene1"])
    said = capsys.readouterr().err
    assert "please report it" in said and said.count("\n") == 1


def test_sigterm_in_one_concepts_training_begins_no_other(
    work: Callable[[Work], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = work(fails(Stopped("ended early")))
    assert cli.main(["train", "concept=dog,cat"]) == 1
    assert len(seen) == 1
    assert capsys.readouterr().err == "toolkit: ended early\n"


def test_pictures_are_not_announced_where_some_failed(
    work: Callable[[Work], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    work(lambda config: 1)
    assert cli.main(["compose", "layout=scene1"]) == 1
    assert cli.main(["sample", "concept=dog"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", ["--help", "compose --help", "--version", ""])
def test_a_pipe_that_closes_early_ends_quietly(arguments: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "toolkit", *arguments.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0 if arguments else 2, "")


def test_a_terminal_that_lacks_a_letter_is_no_error() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "toolkit", "train", "concept=犬"],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "there is no concept=" in ended.stderr and "Traceback" not in ended.stderr


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compoze", "layout=scene1"]) == 2
    assert "nearest: compose" in capsys.readouterr().err


def test_no_command_shows_the_help_and_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "toolkit COMMAND" in capsys.readouterr().out


def test_help_lists_commands_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in (*cli.COMMANDS, "mini (default)", "scene1", "slurm", "wandb"):
        assert word in shown


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_commands_help_lists_choices_keys_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    words = [f"toolkit {command} "]
    groups = cli.COMMANDS[command].shape.groups
    if command != "inspect":
        words += ["output_dir=outputs"]
    if "model" in groups:
        words += ["mini (default), sd15", "model.gradient_checkpointing=false"]
    if "trainer" in groups:
        words += ["num_nodes"]
    if command in ("train", "sample", "compose", "evaluate"):
        words += ["sampling.guidance_scale=4"]
    for word in words:
        assert word in shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("compose --help", 0),
        ("export --help", 0),
        ("train concept=dgo", 2),
        ("compose layout=scene1 trainer.device=2", 2),
    ],
)
def test_help_and_wrong_input_come_before_torch(arguments: str, code: int) -> None:
    program = (
        "import sys; from toolkit.cli import main; code = main(sys.argv[1:]);"
        " assert not {'torch', 'lightning', 'diffusers'} & set(sys.modules); sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments.split()], capture_output=True, text=True
    )
    assert ended.returncode == code, ended.stderr
