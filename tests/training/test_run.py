import copy
import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from toolkit.backbones import Base
from toolkit.concept import Concept, load_concept
from toolkit.config.schema import TrainConfig
from toolkit.errors import InputError, RunError
from toolkit.training import run
from toolkit.training.module import ConceptTraining
from toolkit.training.run import train

MakeConfig = Callable[..., TrainConfig]


def tensors(concept: Concept) -> dict[str, torch.Tensor]:
    found = {"embeddings": concept.embeddings.float()}
    for part, changes in (("unet", concept.unet), ("text", concept.text_encoder)):
        for path, pair in changes.items():
            found[f"{part} {path} down"] = pair.down.float()
            found[f"{part} {path} up"] = pair.up.float()
    return found


def distance(first: Path, second: Path) -> float:
    """The largest difference of two concept files' values."""
    one, two = tensors(load_concept(first)), tensors(load_concept(second))
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_training_leaves_a_concept_file_samples_and_metrics(
    make_config: MakeConfig, tmp_path: Path, tiny_base: Base
) -> None:
    config = make_config(sample_every_steps=2, sample_prompts=("<rex>", "<rex> on the beach"))
    path = train(config)
    assert path == tmp_path / "outputs/concepts/tiny/rex.safetensors"
    concept = load_concept(path)
    concept.check_fits(tiny_base)
    assert concept.name == "rex" and concept.token_names == ("<rex1>", "<rex2>")
    assert concept.class_word == "dog" and concept.rank == 4 and concept.scale == 1
    assert concept.base_name == "tiny" and concept.weights == tiny_base.weights
    assert concept.training["steps"] == "4"
    assert any(float(pair.up.abs().max()) > 0 for pair in concept.unet.values())
    assert any(float(pair.up.abs().max()) > 0 for pair in concept.text_encoder.values())
    folder = tmp_path / "outputs/runs/train/tiny/rex"
    assert files_in(folder) == {
        "checkpoints/last.ckpt",
        "crops.png",
        "metrics.csv",
        "samples/step_000002.png",
        "samples/step_000004.png",
    }
    with (folder / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    with Image.open(folder / "samples/step_000004.png") as grid:
        assert grid.width > 4 * 192 and grid.height > 2 * 192


def test_the_base_keeps_its_weights(
    make_config: MakeConfig, tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.deepcopy({**tiny_base.unet.state_dict(), **tiny_base.text_encoder.state_dict()})
    monkeypatch.setattr(run, "load_base", lambda *_args, **_kwargs: tiny_base)
    train(make_config())
    after = {**tiny_base.unet.state_dict(), **tiny_base.text_encoder.state_dict()}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_second_run_does_nothing_until_settings_or_images_change(
    make_config: MakeConfig, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = train(make_config())
    first = path.read_bytes()
    fits: list[int] = []
    original = run._fit
    monkeypatch.setattr(run, "_fit", lambda *given: (fits.append(1), original(*given)))
    train(make_config())
    assert not fits
    train(make_config(seed=1))
    assert len(fits) == 1 and path.read_bytes() != first
    (images / "2.txt").write_text("<rex> on the right")
    train(make_config(seed=1))
    assert len(fits) == 2


def test_masks_matter(make_config: MakeConfig, tmp_path: Path) -> None:
    masked = train(make_config(output_dir=tmp_path / "masked"))
    plain = train(make_config(output_dir=tmp_path / "plain", mask_loss=False))
    assert distance(masked, plain) > 1e-4


def test_gradient_checkpointing_and_accumulation_do_not_change_the_result(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    plain = train(make_config(output_dir=tmp_path / "plain", attention_regularisation=0.01))
    spared = train(
        make_config(
            output_dir=tmp_path / "spared",
            attention_regularisation=0.01,
            gradient_checkpointing=True,
        )
    )
    assert distance(plain, spared) < 2e-4
    halves = train(
        make_config(
            output_dir=tmp_path / "halves", trainer={"accumulate_grad_batches": 2}, batch_size=1
        )
    )
    metrics = tmp_path / "halves/runs/train/tiny/rex/metrics.csv"
    assert len(metrics.read_text().splitlines()) == 1 + 4, "steps are the optimiser's"
    assert halves.is_file()


def test_the_attention_regulariser_acts(make_config: MakeConfig, tmp_path: Path) -> None:
    plain = train(make_config(output_dir=tmp_path / "plain"))
    held = train(make_config(output_dir=tmp_path / "held", attention_regularisation=1.0))
    assert distance(plain, held) > 1e-4


def test_embeddings_stop_at_their_largest_norm(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(max_embedding_norm=1e-3))
    with (tmp_path / "outputs/runs/train/tiny/rex/metrics.csv").open() as file:
        norms = {row["embedding_norm"] for row in csv.DictReader(file)}
    assert len(norms) == 1


def test_nan_in_the_loss_is_told_and_writes_no_concept(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="step 1 of 4.*learning rate"):
        train(make_config(learning_rate_unet=float("inf"), checkpoint_every_steps=100))
    assert not list((tmp_path / "outputs").rglob("*.safetensors"))
    assert not list((tmp_path / "outputs").rglob("*.ckpt"))


def test_wrong_input_is_told_before_the_base_loads(
    make_config: MakeConfig, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_base(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the base was loaded")

    monkeypatch.setattr(run, "load_base", load_base)
    with pytest.raises(InputError, match="a cat.*write <rex>"):
        train(make_config(sample_prompts=("a cat",)))
    (images / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png"):
        train(make_config())


def test_a_caption_that_loses_the_concept_is_an_error(
    make_config: MakeConfig, images: Path
) -> None:
    (images / "0.txt").write_text("very " * 80 + "<rex>")
    with pytest.raises(InputError, match=r"0\.png is too long"):
        train(make_config())


def test_an_error_while_training_goes_on_from_the_last_checkpoint(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(make_config(output_dir=tmp_path / "whole"))
    seen: list[int] = []
    step = ConceptTraining.training_step

    def failing(self: ConceptTraining, batch: object, batch_idx: int) -> torch.Tensor:
        seen.append(self.global_step)
        if seen == [0, 1, 2, 3]:
            raise OSError("no space left")
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(ConceptTraining, "training_step", failing)
    with pytest.raises(OSError, match="no space"):
        train(make_config())
    resumed = train(make_config())
    assert seen == [0, 1, 2, 3, 2, 3]
    assert distance(whole, resumed) < 1e-6
    lines = (tmp_path / "outputs/runs/train/tiny/rex/metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "3", "4"]


def command(config: TrainConfig, *more: str) -> list[str]:
    options = config.training
    return [
        *("train", "concept=rex", f"concept.images={config.concept.images}"),
        *("concept.class_word=dog", f"model.path={config.model.path}", "model.name=tiny"),
        *("model.width=64", "model.height=64", f"output_dir={config.output_dir}"),
        *(f"training.steps={options.steps}", f"training.batch_size={options.batch_size}"),
        f"training.learning_rate_text_encoder={options.learning_rate_text_encoder}",
        f"training.learning_rate_unet={options.learning_rate_unet}",
        f"training.learning_rate_embeddings={options.learning_rate_embeddings}",
        "training.max_embedding_norm=null",
        f"training.checkpoint_every_steps={options.checkpoint_every_steps}",
        *("training.sample_every_steps=0", "trainer=cpu", *more),
    ]


SIGNALLED = """
import os, sys
from toolkit.cli import main
from toolkit.training.measurements import TimeLeft
after_step = TimeLeft.after_step
def signalling(self, trainer, training, step):
    after_step(self, trainer, training, step)
    if step == 3:
        os.kill(os.getpid(), int(sys.argv[1]))
TimeLeft.after_step = signalling
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("sent", "code", "kept"),
    [(signal.SIGKILL, -9, 2), (signal.SIGINT, 130, 3), (signal.SIGTERM, 1, 3)],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_file(
    make_config: MakeConfig, tmp_path: Path, sent: signal.Signals, code: int, kept: int
) -> None:
    whole = train(make_config(output_dir=tmp_path / "whole"))
    config = make_config()
    killed = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(sent)), *command(config)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == code, killed.stderr
    said = f"stopped at step {kept} of 4: the same command goes on from there"
    assert (said in killed.stderr) == (sent is signal.SIGINT)
    assert not list(config.output_dir.rglob("*.safetensors"))
    checkpoint = config.output_dir / "runs/train/tiny/rex/checkpoints/last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == kept
    assert distance(whole, train(config)) < 1e-6


def test_two_processes_train_one_concept(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "toolkit"),
            *command(config, "trainer.devices=2", "trainer.strategy=ddp"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    for once in (
        "rex: 3 images, 2 captions, 3 masks, 1 repeat each\n",
        "training rex on tiny: 64 x 64 pixels, 2 processes on cpu, 32-true, 4 steps of 2 images in "
        "each, the loss taken inside the masks\n",
    ):
        assert ran.stderr.count(once) == 1, ran.stderr
    assert "GPU available" not in ran.stderr and "rank" not in ran.stderr.lower(), ran.stderr
    both = config.output_dir / "concepts/tiny/rex.safetensors"
    assert load_concept(both).training["devices"] == "2"
    lines = (config.output_dir / "runs/train/tiny/rex/metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "3", "4"]
    alone = train(make_config(output_dir=tmp_path / "alone"))
    assert distance(both, alone) > 1e-4, "the second process's batches counted"


def test_the_time_to_come_is_told_once_the_first_steps_have_shown_it(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(make_config(mask_loss=False, steps=10, sample_every_steps=4))
    assert "tiny: 64 x 64 pixels, cpu, 32-true, 10 steps of 2 images, the loss taken over" in (
        caplog.text
    )
    assert caplog.text.count("to come") == 1
    assert "less than a minute to come, and 2 grids of samples" in caplog.text  # of steps 8 and 10


def test_a_base_in_half_precision_is_trained_on_in_full(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[torch.dtype]] = []
    fit = run._fit

    def watched(trainer: object, training: ConceptTraining, *rest: object) -> None:
        trained.append({value.dtype for value in training.parameters() if value.requires_grad})
        fit(trainer, training, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_fit", watched)
    config = make_config(trainer={"precision": "bf16-mixed"}, sample_every_steps=4)
    assert load_concept(train(config)).training["dtype"] == "bfloat16"
    assert trained == [{torch.float32}]


def test_wandb_runs_offline_asks_nothing_and_tells_how_to_send_it(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    caplog.set_level("INFO", "toolkit")
    train(make_config(logger="wandb", sample_every_steps=4))
    folder = tmp_path / "outputs/runs/train/tiny/rex"
    (run_file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    (told,) = [text for text in caplog.messages if "wandb sync" in text]
    assert told.endswith(f"wandb sync {run_file.parent}")


def test_no_log_is_written_when_none_is_wanted(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(logger="none"))
    assert not (tmp_path / "outputs/runs/train/tiny/rex/metrics.csv").exists()


def test_pictures_that_no_memory_holds_are_refused_before_they_are_made(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    large = replace(config, model=replace(config.model, width=2**16, height=2**16))
    with pytest.raises(InputError, match=r"GB of memory, and this machine has"):
        train(large)
    assert not list((tmp_path / "outputs").rglob("*.*"))
