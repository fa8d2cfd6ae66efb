"""What a power cut or an editor leaves of the files that training goes on from."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from toolkit.concept import load_concept
from toolkit.config.schema import TrainConfig
from toolkit.training.run import train

MakeConfig = Callable[..., TrainConfig]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def text(path: Path) -> None:
    path.write_text("<html>not found</html>")


def another_kind(path: Path) -> None:
    torch.save([1, 2], path)


def without_its_parts(path: Path) -> None:
    held = torch.load(path, weights_only=True)
    torch.save({"settings": held["settings"]}, path)


@pytest.mark.parametrize("damage", [empty, cut, text, another_kind, without_its_parts])
def test_a_damaged_checkpoint_is_said_and_training_starts_anew(
    damage: Callable[[Path], None], make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    concept = train(make_config())
    made = load_concept(concept).embeddings
    concept.unlink()
    checkpoint = make_config().output_dir / "runs/train/tiny/rex/checkpoints/last.ckpt"
    damage(checkpoint)
    with caplog.at_level(logging.INFO):
        assert train(make_config()) == concept
    assert "last.ckpt is damaged: training anew" in caplog.text
    assert torch.equal(load_concept(concept).embeddings, made)
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 4


@pytest.mark.parametrize(
    "damage", [b"1.0,2,3,4,5\n", b"\0\0\0\xff", b"2,0.1\n", b'"' + b"x" * 200_000, b"9" * 5000]
)
def test_damaged_lines_of_the_metrics_are_left_out_and_counted(
    damage: bytes, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    train(make_config())
    metrics = make_config().output_dir / "runs/train/tiny/rex/metrics.csv"
    head, *lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(head + damage + b"\n" + b"".join(lines))
    train(make_config(seed=1))
    assert "1 damaged lines left out" in caplog.text
    kept = metrics.read_text().splitlines()
    assert [line.split(",")[0] for line in kept] == ["step", "1", "2", "3", "4"]
