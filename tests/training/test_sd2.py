"""Training an ED-LoRA on Stable Diffusion 2.x, which predicts velocity."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from fixed_training import STEPS, batch_of, training_on
from tiny_families import write_sd2

from toolkit.backbones import Base, Part, load_base
from toolkit.concept import Concept, load_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format
from toolkit.config.schema import TrainConfig
from toolkit.training.data import TrainingBatch
from toolkit.training.module import ConceptTraining
from toolkit.training.run import train

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd2(tmp_path_factory.mktemp("sd2"))


@pytest.fixture
def sd2(folder: Path) -> Base:
    return load_base(folder, "tiny2")


@pytest.fixture
def make_sd2_config(make_config: MakeConfig, folder: Path) -> MakeConfig:
    def make(**more: object) -> TrainConfig:
        config = make_config(**more)
        return replace(config, model=replace(config.model, name="tiny2", path=str(folder)))

    return make


def changes_of(concept: Concept) -> dict[tuple[Part, str], torch.Tensor]:
    """What each map's LoRA adds to its weight."""
    return {
        (part, path): concept.scale * pair.up.float() @ pair.down.float()
        for part, changes in concept.changes.items()
        for path, pair in changes.items()
    }


def test_the_velocity_loss_on_a_fixed_batch_falls_to_under_half_in_40_steps(
    sd2: Base, images: Path
) -> None:
    batch = batch_of(sd2, images, 1, (32, 32))
    with sd2.lora_injected(4, torch.Generator().manual_seed(0)), sd2.heard_by_layer():
        training = training_on(sd2)
        prompts = training.prompts(batch)
        signal = training.schedule.signal[batch.timesteps]
        velocity = signal.sqrt() * batch.noise - (1 - signal).sqrt() * batch.latents
        noisy = signal.sqrt() * batch.latents + (1 - signal).sqrt() * batch.noise
        with torch.no_grad():
            said = sd2.predict(noisy, batch.timesteps, training.encodings(prompts))
            error = (said - velocity).square().mean(dim=1, keepdim=True)
            expected = (error * batch.masks).sum() / batch.masks.sum()
            assert float(training.errors(batch, prompts)) == pytest.approx(float(expected))
        optimizer = training.configure_optimizers()["optimizer"]
        losses = []
        for _ in range(STEPS + 1):
            loss = training.errors(batch, prompts).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2, losses


def test_a_training_that_goes_on_ends_with_the_same_bits(
    make_sd2_config: MakeConfig, sd2: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_concept(train(make_sd2_config(output_dir=tmp_path / "whole")))
    whole.check_fits(sd2)
    assert whole.embeddings.shape == (2, 16, 24)
    step, seen = ConceptTraining.training_step, []

    def failing(self: ConceptTraining, batch: TrainingBatch, batch_idx: int) -> torch.Tensor:
        seen.append(self.global_step)
        if seen == [0, 1, 2, 3]:
            raise OSError("no space left")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ConceptTraining, "training_step", failing)
    with pytest.raises(OSError, match="no space"):
        train(make_sd2_config())
    resumed = load_concept(train(make_sd2_config()))
    assert seen == [0, 1, 2, 3, 2, 3]
    assert torch.equal(whole.embeddings, resumed.embeddings)
    first, second = changes_of(whole), changes_of(resumed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[place], second[place]) for place in first)
    assert all(first[place].any() for place in first if place[0] is Part.TEXT_ENCODER)


@pytest.mark.parametrize("format", [Format.DIFFUSERS, Format.KOHYA])
def test_what_was_trained_goes_out_to_plain_diffusers_and_comes_in_again(
    format: Format, make_sd2_config: MakeConfig, sd2: Base, folder: Path, tmp_path: Path
) -> None:
    concept = load_concept(train(make_sd2_config()))
    expected = changes_of(concept)
    file = write_foreign(concept, format, tmp_path / "rex.safetensors").files[0]
    read = changes_of(read_foreign(file, "rex", sd2, "dog"))
    assert read.keys() == expected.keys()
    assert all(torch.allclose(read[place], expected[place], atol=1e-6) for place in expected)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    before = {part: own.state_dict() for part, own in sd2.parts.items()}
    pipeline.load_lora_weights(file)
    pipeline.fuse_lora()
    for (part, path), change in expected.items():
        network = getattr(pipeline, part)
        name = next(
            name for name, _ in network.named_modules() if name.removeprefix("text_model.") == path
        )
        fused = network.get_submodule(name).base_layer.weight
        own = next(
            weight for key, weight in before[part].items()
            if key.removeprefix("text_model.") == f"{path}.weight"
        )  # fmt: skip
        assert torch.allclose(fused, own + change, atol=1e-5), path
