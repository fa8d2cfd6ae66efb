import pytest
import torch
from base.muon import Muon, orthogonalise
from base.recipes import RECIPES, Recipe, optimizers, set_rates
from base.text_to_image import velocity_loss
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn


def test_orthogonalised_matrices_keep_their_directions_and_lose_their_sizes() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 12, 40)
    singular = torch.linalg.svdvals(orthogonalise(matrices))
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert (
        torch.nn.functional.cosine_similarity(
            orthogonalise(matrices).flatten(1), (u @ v).flatten(1)
        ).min()
        > 0.98
    )


def test_muon_moves_matrices_as_torch_does() -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(16, 24)), nn.Parameter(torch.randn(16, 24))]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.01}
    made = Muon(ours, **settings)
    reference = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    before = [weight.detach().clone() for weight in ours]
    for _ in range(3):
        for ours_one, theirs_one in zip(ours, theirs, strict=True):
            ours_one.grad = torch.randn(16, 24)
            theirs_one.grad = ours_one.grad.clone()
        made.step()
        reference.step()
    for start, a, b in zip(before, ours, theirs, strict=True):
        moved = (b - start).norm()
        assert (a - b).norm() < 0.03 * moved  # torch's own works in bfloat16


def test_a_convolution_is_moved_as_the_matrix_of_its_outputs() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 4, 3, 3))
    matrix = nn.Parameter(kernel.detach().reshape(8, 36).clone())
    kernel.grad = torch.randn_like(kernel)
    matrix.grad = kernel.grad.reshape(8, 36).clone()
    Muon([kernel], 0.01).step()
    Muon([matrix], 0.01).step()
    assert torch.allclose(kernel.reshape(8, 36), matrix)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_each_weight_of_the_unet_once(
    name: str, tiny_unet: UNet2DConditionModel
) -> None:
    unet, text = tiny_unet, nn.Linear(4, 4)
    made = optimizers(RECIPES[name], unet, text)
    moved = [weight for o in made for group in o.param_groups for weight in group["params"]]
    wanted = list(unet.parameters()) + (list(text.parameters()) if RECIPES[name].text_rate else [])
    assert sorted(map(id, moved)) == sorted(map(id, wanted))


def test_rates_end_at_zero_and_keep_their_proportions(tiny_unet: UNet2DConditionModel) -> None:
    made = optimizers(Recipe(text_rate=0.5), tiny_unet, nn.Linear(4, 4))
    set_rates(made, 0.5)
    unet, text = (group["lr"] for group in made[0].param_groups)
    assert text == pytest.approx(0.5 * unet)
    assert 0 < unet < Recipe.learning_rate
    set_rates(made, 1.0)
    assert all(group["lr"] == 0 for o in made for group in o.param_groups)


def test_min_snr_weights_are_the_papers() -> None:
    schedule = DDPMScheduler(num_train_timesteps=1000, prediction_type="v_prediction")
    latents = torch.randn(64, 2, 4, 4)
    zero = lambda noisy, timesteps, embeds: _Output(torch.zeros_like(noisy))  # noqa: E731

    def loss(min_snr: float | None) -> float:
        torch.manual_seed(3)
        return float(velocity_loss(zero, schedule, latents, torch.empty(0), 0.5, min_snr))

    torch.manual_seed(3)
    noise = torch.randn_like(latents)
    uniform = torch.rand(64)
    leant = torch.sigmoid(0.5 + torch.randn_like(uniform))
    timesteps = (torch.where(torch.rand_like(uniform) < 0.5, uniform, leant) * 1000).long()
    errors = schedule.get_velocity(latents, noise, timesteps).square().mean(dim=(1, 2, 3))
    kept = schedule.alphas_cumprod[timesteps]
    weights = torch.minimum(kept / (1 - kept), torch.tensor(5.0)) / (kept / (1 - kept) + 1)
    assert loss(None) == pytest.approx(float(errors.mean()), rel=1e-5)
    expected = float((weights * errors).sum() / weights.sum())
    assert loss(5.0) == pytest.approx(expected, rel=1e-5)


class _Output:
    def __init__(self, sample: torch.Tensor) -> None:
        self.sample = sample
