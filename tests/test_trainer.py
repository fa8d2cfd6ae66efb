"""Every argument of Lightning's Trainer: what it refuses is one line, before the base is loaded."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from toolkit.batch import run as composition
from toolkit.cli import main
from toolkit.config.trainer import RESERVED, trainer_arguments
from toolkit.config.trainer_values import Work
from toolkit.errors import InputError
from toolkit.trainer import check_trainer
from toolkit.training import run as training

WORDS, SWITCH, WHOLE = ("foo", "[a, b]", "1.5"), ("foo", "2", "[]"), ("x", "1.5", "-5")
SHARE = ("x", "-1", "1.5")
WRONG = {
    "accelerator": ("gpux", "[cpu]", "7"),
    "strategy": ("foo", "fsdp", "3"),
    "devices": ("two", "0", "[0, 1]"),
    "num_nodes": ("x", "0", "1.5"),
    "precision": ("fp16", "17", "true"),
    "fast_dev_run": ("x", "-1", "1.5"),
    "min_epochs": WHOLE,
    "min_steps": WHOLE,
    "max_time": ("soon", "5", "{weeks: x}"),
    "limit_train_batches": SHARE,
    "limit_val_batches": SHARE,
    "limit_test_batches": SHARE,
    "limit_predict_batches": SHARE,
    "overfit_batches": SHARE,
    "val_check_interval": ("soon", "-3", "1.5"),
    "check_val_every_n_epoch": ("x", "0", "1.5"),
    "num_sanity_val_steps": WHOLE,
    "log_every_n_steps": WHOLE,
    "enable_checkpointing": SWITCH,
    "enable_progress_bar": SWITCH,
    "enable_model_summary": SWITCH,
    "accumulate_grad_batches": ("x", "0", "1.5"),
    "gradient_clip_val": ("abc", "-1", "1e999"),
    "gradient_clip_algorithm": WORDS,
    "deterministic": ("foo", "1", "[true]"),
    "benchmark": SWITCH,
    "inference_mode": SWITCH,
    "use_distributed_sampler": SWITCH,
    "profiler": ("foo", "xla", "3"),
    "detect_anomaly": SWITCH,
    "barebones": SWITCH,
    "plugins": ("x", "[x]", "3"),
    "sync_batchnorm": SWITCH,
    "reload_dataloaders_every_n_epochs": WHOLE,
    "enable_autolog_hparams": SWITCH,
    "model_registry": ("3", "[a]", "true"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image and a layout, and a base that fails the test when it is loaded."""

    def load_base(*_given: object, **_named: object) -> None:
        raise AssertionError("the base was loaded")

    monkeypatch.setattr(training, "load_base", load_base)
    monkeypatch.setattr(composition, "load_base", load_base)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "pictures/0.png")
    (tmp_path / "a.yaml").write_text("{name: a, prompt: x, width: 64, height: 64, regions: []}")
    return tmp_path


COMMANDS = (
    ("train", "concept=rex", "concept.images=pictures", "concept.class_word=dog"),
    ("compose", "layout=a.yaml"),
)


def test_every_argument_has_its_wrong_values() -> None:
    assert set(WRONG) == set(trainer_arguments())


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_line_and_nothing_is_loaded(
    name: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for command in COMMANDS:
        for value in WRONG[name]:
            assert main([*command, f"trainer.{name}={value}"]) == 2, value
            said = capfd.readouterr().err
            assert said.startswith(f"toolkit: trainer.{name}="), said
            assert said.count("\n") == 1, said
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("name", RESERVED)
def test_what_the_command_sets_itself_is_refused(name: str, folder: Path) -> None:
    assert all(main([*command, f"trainer.{name}=1"]) == 2 for command in COMMANDS)


@pytest.mark.parametrize(
    ("precision", "called", "dtype"),
    [
        ("bf16-true", "bf16-true", torch.bfloat16),
        ("16-true", "16-true", torch.float16),
        ("64", "64-true", torch.float64),
        ("bf16", "bf16-mixed", torch.bfloat16),
        ("16-mixed", "bf16-mixed", torch.bfloat16),  # torch has no float16 autocast on a CPU
        (None, "32-true", torch.float32),
    ],
)
def test_the_base_is_held_in_what_the_precision_says(
    precision: str | None, called: str, dtype: torch.dtype
) -> None:
    checked = check_trainer({"accelerator": "cpu", "precision": precision}, Work.TRAIN)
    assert checked.make().precision == checked.precision == called
    assert checked.dtype_of_base(None) == dtype
    assert checked.dtype_of_base("float32") == torch.float32


def test_what_changes_nothing_is_said() -> None:
    typed = {"accelerator": "cpu", "max_time": "00:00:01:00", "precision": "16-mixed"}
    unused, other = check_trainer(typed, Work.COMPOSE).remarks
    assert "trainer.max_time has no effect" in unused and "bf16-mixed is used" in other
    assert len(check_trainer(typed, Work.TRAIN).remarks) == 1


def test_a_thousand_processes_on_a_cpu_are_not_started() -> None:
    with pytest.raises(InputError, match="this machine has") as caught:
        check_trainer({"accelerator": "cpu", "devices": 1000}, Work.COMPOSE)
    assert caught.value.path == "trainer.devices"


@pytest.mark.parametrize(("name", "value"), [("max_time", "soon"), ("devices", "two")])
def test_the_error_carries_the_argument(name: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        check_trainer({"accelerator": "cpu", name: value}, Work.COMPOSE)
    assert caught.value.path == f"trainer.{name}"
