"""What stands in `--help` is what would be used with all that is typed beside it."""

import re

import pytest

from toolkit.cli import main


def shown(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command shows, with one space between its words."""
    assert main(command.split()) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("train --help", ["model=mini", "training.steps=200", "model.width=128"]),
        (
            "train --help model=sd15",
            ["values of model=sd15", "sd15 (chosen)", "training.steps=800", "model.width=512"],
        ),
        ("train model=sd15 training.steps=7 --help", ["training.steps=7", "model.width=512"]),
        ("train --help concept=dog", ["concept.images=datasets/dog", "concept.class_word=dog"]),
        ("train --help concept=rex", ["training.steps=200"]),
        ("train --help concept=dog,cat", ["training.steps=200"]),
        ("train --help model.path=a/b", ["model.name=b", "model.path=a/b", "training.steps=800"]),
        ("train --help logger=wandb", ["logger.kind=wandb"]),
        ("train --help trainer=ddp", ["trainer.devices=auto", "trainer.strategy=ddp"]),
        ("compose --help method=balanced", ["method.preset=balanced", "method.step_size=20"]),
        ("compose --help method.preset=paper", ["method.region_weight=0.8"]),
        ("compose --help seeds=4", ["seeds=4"]),
        ("sample --help model=sd15", ["sampling.steps=50", "sampling.guidance_scale=7.5"]),
        ("import --help model=sd15", ["model.width=512"]),
    ],
)  # fmt: skip
def test_help_shows_the_values_of_what_is_typed_beside_it(
    command: str, values: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = shown(command, capsys)
    for value in values:
        assert re.search(rf"[ ]{re.escape(value)}[ ),]", said), value


def test_help_of_a_method_shows_only_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert "method.region_loss" in shown("compose --help", capsys)
    assert "method.region_loss" not in shown("compose --help method=merge", capsys)


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ("export dog", "(diffusers, kohya, mix_of_show)"),
        ("compose", "(published, paper, balanced)"),
        ("compose", "Who draws: lora_composer, prompt_only, merge"),
        ("train concept=dog", "(csv, wandb, tensorboard, none)"),
        ("compose", "(float32, float16, bfloat16)"),
        ("fuse", "(closed_form, lbfgs)"),
        ("fuse", "(dpm, ddim)"),
        ("evaluate", "clip, dinov2, mini, imagenet, clean or a CLIP's or DINOv2's path"),
    ],
)
def test_help_lists_the_choices_of_a_key(
    command: str, choices: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert choices in shown(f"{command} --help", capsys)


def test_what_is_wrong_beside_help_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help", "modle=sd15"]) == 2
    assert "unknown key modle (nearest: model)" in capsys.readouterr().err
    assert main(["train", "--help", "model=sd51"]) == 2
    assert "there is no model=sd51 (nearest: sd21, sd15)" in capsys.readouterr().err
