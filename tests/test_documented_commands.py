"""Every command that README and docs show is one that the programs take, as it stands there."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from toolkit import cli
from toolkit.config import lookup
from toolkit.config.commands import (
    read_compose,
    read_concepts,
    read_evaluate,
    read_export,
    read_fuse,
    read_import,
    read_inspect,
    read_layouts,
    read_rate,
    read_sample,
    read_train,
    read_ui,
)

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READERS: dict[str, Callable[[Sequence[str]], object]] = {
    "compose": read_compose,
    "concepts": read_concepts,
    "evaluate": read_evaluate,
    "export": read_export,
    "fuse": read_fuse,
    "import": read_import,
    "inspect": read_inspect,
    "layouts": read_layouts,
    "rate": read_rate,
    "sample": read_sample,
    "train": read_train,
    "ui": read_ui,
}
SERVERS = {"ui", "rate"}  # they end when they are stopped; tests/ui starts them
ELSEWHERE = {"model=sd15", "trainer=ddp"}
"""README's commands with these need weights or devices that are not here."""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command that a page shows, lines that go on joined, comments left out."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


SHOWN = [(page.name, words) for page in PAGES for words in commands(page)]


def after(program: str) -> list[tuple[str, list[str]]]:
    """What stands behind a program's name, wherever in the line: srun and torchrun start others."""
    found = [(name, words[words.index(program) + 1 :]) for name, words in SHOWN if program in words]
    assert found
    return found


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the files that the pages speak of are there: layouts and images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(ROOT / "datasets" / "dog", tmp_path / "pictures" / "rex")
    shutil.copytree(ROOT / "datasets" / "cat", tmp_path / "pictures" / "tom")
    (tmp_path / "models").mkdir()
    for name in ("v1-5", "noob"):
        (tmp_path / "models" / f"{name}.safetensors").touch()
    for text in (text for page in PAGES for text in blocks(page, "yaml")):
        if named := re.match(r"# (\S+\.yaml)\n", text):
            (tmp_path / named[1]).write_text(text)
    (line,) = blocks(ROOT / "docs" / "scale.md", "json")
    (tmp_path / "night.jsonl").write_text(line)
    for _, words in after("toolkit"):
        if words[0] == "import":
            for word in words[1:]:
                if "=" not in word or word.startswith("embedding="):
                    (tmp_path / word.rpartition("=")[2]).touch()
    return tmp_path


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize(("page", "words"), after("toolkit"), ids=lambda shown: str(shown))
def test_the_toolkit_takes_the_command(page: str, words: list[str]) -> None:
    command, *arguments = words
    if "--help" in arguments or command.startswith("-"):
        assert cli.main(words) == 0
    else:
        READERS[command](arguments)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "layout":
            for name in value.split(","):
                assert Path(name).is_file() or name in lookup.choices("layout")


def test_make_has_the_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page, targets in after("make"):
        for target in targets:
            if "=" not in target:
                assert re.search(rf"^{re.escape(target)}:", makefile, re.M), (page, target)


@pytest.mark.parametrize(
    ("page", "words"),
    [(page, words) for page, words in SHOWN if any("scripts/" in word for word in words)],
    ids=lambda shown: str(shown),
)
def test_the_script_takes_the_arguments(page: str, words: list[str]) -> None:
    (script,) = [word for word in words if word.startswith("scripts/")]
    assert (ROOT / script).is_file()
    if script.endswith(".sh"):
        return
    shown = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for option in words[words.index(script) + 1 :]:
        if option.startswith("--"):
            assert re.search(rf"(^|[\s\[,]){option}\b", shown), option


def quick_start() -> list[list[str]]:
    """README's commands, smaller: few steps, one seed."""
    small = {
        "train": ["training.steps=1", "training.batch_size=1", "training.sample_every_steps=0"],
        "sample": ["sampling.steps=1", "seeds=1"],
        "compose": ["sampling.steps=1", "seeds=1"],
        "evaluate": ["sampling.steps=1", "seeds=1"],
    }
    found = [["train", "concept=dog,cat", *small["train"]]]  # as `make demo`
    for page, (command, *arguments) in after("toolkit"):
        if page == "README.md" and command not in SERVERS and not ELSEWHERE & set(arguments):
            kept = [one for one in arguments if not one.startswith("seeds=")]
            found.append([command, *kept, *small.get(command, [])])
    return found


def test_the_readmes_quick_start_runs(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = quick_start()
    assert {words[0] for words in started} >= {"train", "sample", "compose", "evaluate", "export"}
    for words in started:
        assert cli.main(words) == 0, (words, capsys.readouterr().err)
    pictures = at_work / "outputs" / "compose"
    assert (pictures / "lora_composer" / "park" / "0.png").is_file()
    assert (pictures / "balanced" / "scene1" / "0.png").is_file()
    assert (at_work / "outputs" / "exports" / "mini" / "rex_diffusers.safetensors").is_file()
