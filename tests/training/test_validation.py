"""Losses on what training does not see: which images, which curve, and which weights are kept."""

import csv
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from toolkit.backbones import Base, load_base
from toolkit.concept import load_concept
from toolkit.config.schema import TrainConfig, TrainingConfig
from toolkit.errors import InputError
from toolkit.training import validation
from toolkit.training.concept_folder import read_concept_folder
from toolkit.training.ed_lora import initial_embeddings, token_names
from toolkit.training.fixed_draws import as_they_are, batches, unseen_cuts
from toolkit.training.held_out import FEWEST, split
from toolkit.training.loss_curve import Measured, told
from toolkit.training.module import ConceptTraining
from toolkit.training.run import train
from toolkit.training.validation import Validation
from toolkit.training.views import ImageViews, Views

MakeConfig = Callable[..., TrainConfig]

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture
def many(images: Path) -> Path:
    """The folder of images, with ten of them."""
    for number in range(3, 10):
        shutil.copy(images / f"{number % 3}.png", images / f"{number}.png")
        shutil.copy(images / "masks" / f"{number % 3}.png", images / "masks" / f"{number}.png")
    return images


def curve_of(folder: Path) -> dict[int, tuple[float, float]]:
    with (folder / "losses.csv").open() as file:
        return {
            int(row["step"]): (float(row["held_out_loss"]), float(row["trained_loss"]))
            for row in csv.DictReader(file)
        }


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements take four pictures a side, so that tests are short."""
    monkeypatch.setattr(validation, "FEWEST_DRAWS", 4)


def embeddings(path: Path) -> torch.Tensor:
    return load_concept(path).embeddings.float()


def same(first: Path, second: Path) -> bool:
    """Whether two concept files hold the same bits; their metadata has no order."""
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_share_of_the_images_is_held_out_and_no_image_is_on_both_sides(many: Path) -> None:
    images = read_concept_folder(many, "rex").images
    parts = split(images, 0.2, seed=0)
    assert len(parts.held_out) == 2 and len(parts.trained) == 8
    assert {one.path for one in parts.held_out}.isdisjoint(one.path for one in parts.trained)
    assert split(images, 0.2, seed=0) == parts
    assert any(split(images, 0.2, seed=seed) != parts for seed in range(1, 9))
    for image in parts.held_out:
        assert image.path.name in parts.told()
    few = split(images[: FEWEST - 1], 0.2, seed=0)
    assert not few.held_out and "too few to hold any out" in few.told()


def test_noise_and_timesteps_are_the_same_for_all_images(tiny_base: Base, many: Path) -> None:
    images = read_concept_folder(many, "rex").images
    first, second = (
        ImageViews(tiny_base, part, Views((64, 64))) for part in (images[:4], images[4:6])
    )
    found = [
        list(batches(views, as_they_are(views), 8, 3, 1000, seed=0)) for views in (first, second)
    ]
    for one, two in zip(*found, strict=True):
        assert torch.equal(one.noise, two.noise) and torch.equal(one.timesteps, two.timesteps)
    steps = torch.cat([batch.timesteps for batch in found[0]]).tolist()
    assert sorted(steps) == [62, 187, 312, 437, 562, 687, 812, 937]
    assert len({caption for batch in found[0] for caption in batch.captions}) > 1


def test_cuts_that_stand_in_for_images_are_none_that_training_shows(
    tiny_base: Base, images: Path
) -> None:
    views = ImageViews(
        tiny_base, read_concept_folder(images, "rex").images, Views((64, 64), mirror=True)
    )
    shown = {views(index, torch.Generator().manual_seed(seed)).latents.numpy().tobytes()
             for index in range(3) for seed in range(8)}  # fmt: skip
    cuts = [views.view(one.index, one.frame, one.mirrored) for one in unseen_cuts(views)]
    assert len(shown) == 5 and len(cuts) == 3, "the middle picture is its own mirror image"
    assert not shown & {cut.latents.numpy().tobytes() for cut in cuts}


def test_the_best_snapshot_is_the_minimum_of_the_written_curve(
    make_config: MakeConfig, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots: dict[int, torch.Tensor] = {}
    measure = Validation.measure

    def watched(self: Validation, trainer: object, training: ConceptTraining, step: int) -> None:
        snapshots[step] = training.embeddings.detach().clone()
        measure(self, trainer, training, step)  # type: ignore[arg-type]

    monkeypatch.setattr(Validation, "measure", watched)
    options = dict(validation=0.2, validate_every_steps=1, steps=6, learning_rate_unet=0.5)
    best = train(make_config(output_dir=tmp_path / "best", keep="best", **options))
    curve = curve_of(tmp_path / "best/runs/train/tiny/rex")
    assert list(curve) == list(range(7))
    lowest = min(curve, key=lambda step: curve[step][0])
    assert lowest != 6, "the case must be one in which the last step is not the best"
    torch.testing.assert_close(embeddings(best), snapshots[lowest], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(snapshots[lowest], snapshots[6], atol=3e-3, rtol=0)
    last = train(make_config(output_dir=tmp_path / "last", **options))
    assert curve_of(tmp_path / "last/runs/train/tiny/rex") == curve, "measuring changes nothing"
    torch.testing.assert_close(embeddings(last), snapshots[6], atol=1e-3, rtol=1e-3)
    with Image.open(tmp_path / "best/runs/train/tiny/rex/losses.png") as figure:
        assert figure.width > 400


def test_the_written_losses_are_those_of_the_images(
    make_config: MakeConfig, many: Path, tmp_path: Path
) -> None:
    """At step 0 the concept has changed nothing yet, so both losses can be worked out apart."""
    config = make_config(validation=0.2, mask_loss=False)
    train(config)
    parts = split(read_concept_folder(many, "rex").images, 0.2, seed=0)
    base = load_base(config.model.path, "tiny")
    start = initial_embeddings(base, "dog", torch.Generator().manual_seed(0))
    found = []
    for images in (parts.held_out, parts.trained):
        views = ImageViews(base, images, Views((64, 64)))
        errors = []
        for batch in batches(views, as_they_are(views), 4, 2, 1000, seed=0):
            words = token_names("rex")
            prompts = [base.tokenise(c.replace("<rex>", " ".join(words)), words)
                       for c in batch.captions]  # fmt: skip
            signal = base.noise_schedule().signal[batch.timesteps].view(-1, 1, 1, 1)
            noisy = signal.sqrt() * batch.latents + (1 - signal).sqrt() * batch.noise
            with base.heard_by_layer(), torch.no_grad():
                encodings = base.encode_prompts(prompts, start)
                said = base.predict(noisy, batch.timesteps, encodings)
            errors.append((said - batch.noise).square().mean(dim=(1, 2, 3)))
        found.append(float(torch.cat(errors).mean()))
    curve = curve_of(tmp_path / "outputs/runs/train/tiny/rex")
    assert curve[0] == pytest.approx(tuple(found), rel=1e-4)


def test_patience_ends_training_and_writes_the_concept(
    make_config: MakeConfig, many: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(
        validation=0.2, validate_every_steps=1, steps=40, learning_rate_unet=0.3, keep="best",
        patience=2,
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        path = train(config)
    curve = curve_of(tmp_path / "outputs/runs/train/tiny/rex")
    lowest = min(curve, key=lambda step: curve[step][0])
    assert max(curve) == lowest + 2 < 40
    assert f"written: the weights of step {lowest} of 40" in caplog.text
    assert "2 images of 10 held out" in caplog.text
    before = path.stat().st_mtime_ns
    train(config)
    assert path.stat().st_mtime_ns == before, "it is trained"


def test_a_stopped_training_goes_on_as_if_it_never_was(
    make_config: MakeConfig, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(
        validation=0.2, validate_every_steps=1, steps=4, learning_rate_unet=0.1, keep="best"
    )
    whole = train(make_config(output_dir=tmp_path / "whole", **options))
    step = ConceptTraining.training_step

    def failing(self: ConceptTraining, batch: object, batch_idx: int) -> torch.Tensor:
        if self.global_step == 3 and not failed:
            failed.append(True)
            raise OSError("no space left")
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    failed: list[bool] = []
    monkeypatch.setattr(ConceptTraining, "training_step", failing)
    with pytest.raises(OSError, match="no space"):
        train(make_config(**options))
    resumed = train(make_config(**options))
    assert same(resumed, whole)
    folders = [tmp_path / name / "runs/train/tiny/rex" for name in ("whole", "outputs")]
    assert curve_of(folders[0]) == curve_of(folders[1])


def test_an_ended_patience_stays_ended_after_a_resume(
    make_config: MakeConfig, many: Path, tmp_path: Path
) -> None:
    config = make_config(
        validation=0.2, validate_every_steps=1, steps=40, learning_rate_unet=0.3, patience=2
    )
    path = train(config)
    before, curve = tmp_path / "before", curve_of(tmp_path / "outputs/runs/train/tiny/rex")
    path.rename(before)
    assert same(train(config), before)
    assert curve_of(tmp_path / "outputs/runs/train/tiny/rex") == curve


def test_few_images_are_measured_on_unseen_cuts(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(make_config(validation=0.2))
    assert "3 images are too few to hold any out" in caplog.text
    curve = curve_of(tmp_path / "outputs/runs/train/tiny/rex")
    assert all(held != trained for held, trained in curve.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"validation": 0.9}, "at most 0.5"),
        ({"keep": "best"}, "training.validation=0.15"),
        ({"patience": 3}, "training.validation=0.15"),
        ({"validation": 0.1, "patience": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(TrainingConfig(), **options)  # type: ignore[arg-type]


def test_the_line_says_how_far_and_what_the_curve_said() -> None:
    curve = [Measured(0, 0.5, 0.5), Measured(10, 0.2, 0.3), Measured(20, 0.25, 0.1)]
    assert "the weights of step 10 of 20" in told(curve, 20, kept=True)
    assert "0.25 at step 20" in told(curve, 20, kept=True)
    assert "training.keep=best would write step 10" in told(curve, 20, kept=False)
    assert "may fall further" in told(curve[:2], 20, kept=True)


def test_tensorboard_gets_both_curves(make_config: MakeConfig, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(make_config(logger="tensorboard", validation=0.2, validate_every_steps=2))
    events = accumulator.EventAccumulator(str(tmp_path / "outputs/runs/train/tiny/rex/tensorboard"))
    events.Reload()
    curve = curve_of(tmp_path / "outputs/runs/train/tiny/rex")
    for place, name in enumerate(("held_out_loss", "trained_loss")):
        found = {event.step: event.value for event in events.Scalars(name)}
        assert found == pytest.approx({step: curve[step][place] for step in (2, 4)}, rel=1e-5)
    assert len(events.Scalars("loss")) == 4


def test_two_processes_measure_one_curve_and_stop_together(
    make_config: MakeConfig, many: Path
) -> None:
    config = make_config()
    options = (
        "steps=40", "batch_size=1", "learning_rate_unet=0.5", "max_embedding_norm=null",
        "validation=0.2", "validate_every_steps=1", "keep=best", "patience=1", "buckets=true",
        "prior=2", "ema_decay=0.5", "caption_dropout=0.5", "sample_every_steps=0",
    )  # fmt: skip
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "toolkit", "train", "concept=rex", "concept.class_word=dog"),
            *(f"concept.images={config.concept.images}", f"model.path={config.model.path}"),
            *("model.name=tiny", "model.width=64", "model.height=64", "sampling.steps=2"),
            *(f"output_dir={config.output_dir}", *(f"training.{option}" for option in options)),
            *("trainer=cpu", "trainer.devices=2", "trainer.strategy=ddp"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert load_concept(config.output_dir / "concepts/tiny/rex.safetensors").rank == 4
    curve = curve_of(config.output_dir / "runs/train/tiny/rex")
    lowest = min(curve, key=lambda step: curve[step][0])
    assert list(curve) == list(range(lowest + 2))
    assert ran.stderr.count("held out (") == 1, "told once"
