import pytest
import torch

from toolkit.backbones.unet.schedule import noisy_latents, target


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_targets_lead_back_to_the_latents(kind: str) -> None:
    latents, noise = draw(3, 2, 4, 4), draw(3, 2, 4, 5)[..., :4]
    signal = torch.tensor([0.9, 0.5, 0.01])
    a, b = signal.sqrt().view(3, 1, 1, 1), (1 - signal).sqrt().view(3, 1, 1, 1)
    noisy = noisy_latents(latents, noise, signal)
    wanted = target(latents, noise, signal, kind)
    found = {
        "epsilon": lambda: (noisy - b * wanted) / a,
        "v_prediction": lambda: a * noisy - b * wanted,
        "sample": lambda: wanted,
    }[kind]()
    assert torch.allclose(found, latents, atol=1e-4)


def test_noise_and_targets_are_those_of_diffusers() -> None:
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    latents, noise, steps = draw(2, 2, 4, 4), draw(2, 4, 4, 2).permute(0, 3, 1, 2), [3, 900]
    signal = schedule.alphas_cumprod[steps]
    timesteps = torch.tensor(steps)
    assert torch.allclose(
        noisy_latents(latents, noise, signal), schedule.add_noise(latents, noise, timesteps)
    )
    assert torch.allclose(
        target(latents, noise, signal, "v_prediction"),
        schedule.get_velocity(latents, noise, timesteps),
    )
