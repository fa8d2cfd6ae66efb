"""The decoder's last stage: crisp edges, on what the encoder makes and on what the U-Net makes.

The encoder stays, so U-Net and concepts stay valid. Three terms: the reconstruction loss that the
decoder learned by, a perceptual one (features of EfficientNet-Lite0), and a patch discriminator
that has seen sharp pictures only.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from toolkit.evaluation.imagenet import ImageNetJudge

from . import checkpoint
from .autoencoder import Crops, as_pixels, psnr, reconstruction_loss
from .scenes import Painter, SceneKind
from .text_to_image import NOISE, TextToImage, read_average, token_ids

PEAK_LEARNING_RATE = 4e-4
PERCEPTUAL = 0.15
ADVERSARIAL = 0.1  # of the gradient that the other terms have at the decoder's last layer
FEATURE_BLOCKS = (0, 2, 4)  # of EfficientNet-Lite0: at a half, a quarter and an eighth of the size
LARGEST_TIMESTEP = 400  # beyond it the U-Net's one-step guess is no longer the same picture
LEAST_PSNR = 27.7  # dB, of the compositions that `build_base.py fidelity` measures
HELD = SceneKind(128, 128, 1, 2, 56, 112, 0.7)


class Features(nn.Module):
    """What EfficientNet-Lite0 sees early on, each channel of unit mean square."""

    def __init__(self) -> None:
        """Read the weights that the extra `imagenet` installs."""
        super().__init__()
        self.network = ImageNetJudge().model

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Features of pictures (n, 3, h, w) in [-1, 1], at three sizes."""
        network, found = self.network, []
        x = F.relu6(network._bn0(network._conv_stem(pixels)))
        for index, block in enumerate(network._blocks[: FEATURE_BLOCKS[-1] + 1]):
            x = block(x)
            if index in FEATURE_BLOCKS:
                found.append(x / (x.square().mean(dim=1, keepdim=True) + 1e-3).sqrt())
        return found


def perceptual_loss(features: Features, output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of features of two batches (n, 3, h, w)."""
    with torch.no_grad():
        wanted = features(target)
    pairs = zip(features(output), wanted, strict=True)
    return sum(((a - b).abs().mean() for a, b in pairs), torch.zeros((), device=output.device))


def new_discriminator() -> nn.Module:
    """A patch discriminator: (n, 3, h, w) to (n, 1, h/4, w/4), each seeing about 30 pixels."""
    layers: list[nn.Module] = []
    for before, width, stride in ((3, 48, 2), (48, 96, 2), (96, 128, 1)):
        convolution = nn.Conv2d(before, width, 4 if stride == 2 else 3, stride, 1)
        layers += [nn.utils.parametrizations.spectral_norm(convolution), nn.LeakyReLU(0.2)]
    layers.append(nn.utils.parametrizations.spectral_norm(nn.Conv2d(128, 1, 3, 1, 1)))
    return nn.Sequential(*layers)


def adversarial_weight(fidelity: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """The factor that keeps both terms' gradients at one weight in proportion (VQGAN, eq. 7)."""
    of_fidelity = torch.autograd.grad(fidelity, last, retain_graph=True)[0].norm()
    of_adversarial = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    return (ADVERSARIAL * of_fidelity / (of_adversarial + 1e-6)).clamp(max=10.0).detach()


class GuessedLatents:
    """Latents as the U-Net makes them: its one-step guess from noised latents of a picture."""

    def __init__(self, model: TextToImage, device: torch.device) -> None:
        """model: the base's networks."""
        self.unet = model.unet.to(device).eval().requires_grad_(False)
        self.schedule = DDPMScheduler(**NOISE)
        text_encoder = model.text_encoder.to(device).eval()
        with torch.no_grad():
            ids = token_ids(model.tokenizer, [""]).to(device)
            self.empty = text_encoder(ids).last_hidden_state

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """The same latents (n, 8, h, w), noised to a timestep below 400 and guessed again."""
        timesteps = torch.randint(0, LARGEST_TIMESTEP, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        embeds = self.empty.expand(len(latents), -1, -1)
        velocity = self.unet(noisy, timesteps, embeds).sample
        kept = self.schedule.alphas_cumprod.to(latents.device)[timesteps][:, None, None, None]
        return kept.sqrt() * noisy - (1 - kept).sqrt() * velocity


def train(
    painter: Painter,
    pack: Path,
    work: Path,
    minutes: float,
    batch: int,
    seed: int = 3,
) -> None:
    """Finish the decoder of work/vae.

    What is kept is the last average whose reconstructions stay above `LEAST_PSNR`.
    """
    device = checkpoint.best_device()
    model = AutoencoderTiny.from_pretrained(work / "vae").to(device)
    model.encoder.requires_grad_(False)
    average, kept = copy.deepcopy(model.decoder), copy.deepcopy(model.decoder)
    features, discriminator = Features().to(device), new_discriminator().to(device)
    guess = GuessedLatents(read_average(painter, work)[0], device)
    rng = np.random.default_rng(seed)
    crops = Crops(painter, pack)
    pool = torch.cat([crops.draw(rng, 256) for _ in range(8)])  # renewed as it is used
    fixed = np.random.default_rng(77)
    held = as_pixels([painter.picture(fixed, HELD)[0] for _ in range(96)]).to(device)
    decoder_steps = torch.optim.AdamW(model.decoder.parameters(), betas=(0.5, 0.98))
    critic_steps = torch.optim.AdamW(discriminator.parameters(), lr=4e-4, betas=(0.5, 0.98))
    last = model.decoder.layers[-1].weight
    for step, done in enumerate(checkpoint.time_box(minutes)):
        checkpoint.set_learning_rate(decoder_steps, PEAK_LEARNING_RATE, done)
        place = torch.from_numpy(rng.integers(0, len(pool), 16))
        pool[place] = crops.draw(rng, 16)
        pixels = pool[torch.from_numpy(rng.integers(0, len(pool), batch))].to(device)
        with torch.no_grad():
            latents = model.encoder(pixels)
            half = batch // 2
            latents = torch.cat([latents[:half], guess(latents[half:])])
        output = model.decoder(latents)
        fidelity = reconstruction_loss(output, pixels)
        fidelity = fidelity + PERCEPTUAL * perceptual_loss(features, output, pixels)
        discriminator.requires_grad_(False)
        adversarial = -discriminator(output).mean()
        trust = min(1.0, max(0.0, (done - 0.15) / 0.15))  # the critic learns first
        weight = trust * adversarial_weight(fidelity, adversarial, last)
        decoder_steps.zero_grad()
        (fidelity + weight * adversarial).backward()
        decoder_steps.step()
        discriminator.requires_grad_(True)
        real, made = discriminator(pixels), discriminator(output.detach())
        critic = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        critic_steps.zero_grad()
        critic.backward()
        critic_steps.step()
        checkpoint.move_average(average, model.decoder, 0.99)
        if step % 100 == 0:
            with torch.no_grad():
                reached = psnr(average(model.encoder(held)), held)
            logging.info("finish %d: %.2f dB, critic %.2f", step, reached, critic.detach())
            if reached >= LEAST_PSNR or step == 0:
                kept.load_state_dict(average.state_dict())
    with torch.no_grad():
        reached = psnr(average(model.encoder(held)), held)
    model.decoder = average if reached >= LEAST_PSNR else kept
    model.save_pretrained(work / "vae")
    logging.info("decoder finished at %.2f dB", reached)
