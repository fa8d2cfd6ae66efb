import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from base import checkpoint
from base.pretraining import Training
from base.recipes import RECIPES, Recipe
from base.text_to_image import NOISE, TextToImage
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from transformers import CLIPTextConfig, CLIPTextModel

BATCH = 4


@pytest.fixture
def make_model(tiny_unet: UNet2DConditionModel) -> Callable[[], TextToImage]:
    """Makes the same untrained networks each time it is called."""

    def make() -> TextToImage:
        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=20,
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=8,
                bos_token_id=0,
                eos_token_id=1,
            )
        )
        return TextToImage(None, text, copy.deepcopy(tiny_unet))  # type: ignore[arg-type]

    return make


def _step(training: Training, seed: int) -> float:
    torch.manual_seed(seed)
    latents, ids = torch.randn(BATCH, 4, 8, 8), torch.randint(2, 20, (BATCH, 8))
    return float(training.step(latents, ids, DDPMScheduler(**NOISE), 0.8))


@pytest.mark.parametrize("recipe", ["adamw", "muon", "muon-text"])
def test_a_stretch_that_was_stopped_goes_on_as_if_it_was_not(
    recipe: str, make_model: Callable[[], TextToImage], tmp_path: Path
) -> None:
    whole, cut = Training(make_model(), RECIPES[recipe]), Training(make_model(), RECIPES[recipe])
    for seed in range(4):
        _step(whole, seed)
    for seed in range(2):
        _step(cut, seed)
    cut.progress.spent, cut.progress.steps = 120.0, 2
    cut.save(tmp_path / "state.pt")
    resumed = Training(make_model(), RECIPES[recipe])
    state = checkpoint.read(tmp_path / "state.pt", torch.device("cpu"))
    assert state is not None
    resumed.restore(state)
    assert resumed.progress == cut.progress
    for seed in range(2, 4):
        _step(resumed, seed)
    for ours, theirs in zip(
        whole.networks.parameters(), resumed.networks.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    for decay, average in whole.averages.items():
        other = resumed.averages[decay].parameters()
        assert all(map(torch.equal, average.parameters(), other))


def test_a_finished_stretch_publishes_the_average_that_was_chosen(
    make_model: Callable[[], TextToImage], tmp_path: Path
) -> None:
    training = Training(make_model(), Recipe(decays=(0.5, 0.9)))
    for seed in range(2):
        _step(training, seed)
    training.save(tmp_path / "state.pt", best="0.9")
    state = checkpoint.read(tmp_path / "state.pt", torch.device("cpu"))
    assert state is not None
    assert state["stretch"] is None
    for name, value in training.averages[0.9].state_dict().items():
        assert torch.equal(state["average"][name], value)
        assert torch.equal(state["model"][name], value)


def test_a_frozen_text_tower_stays_as_it_is_and_the_loss_falls(
    make_model: Callable[[], TextToImage],
) -> None:
    training = Training(make_model(), Recipe("muon", 3e-3))
    before = {k: v.clone() for k, v in training.model.text_encoder.state_dict().items()}
    losses = [_step(training, 0) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    after = training.model.text_encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
