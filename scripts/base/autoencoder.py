"""The autoencoder: diffusers' AutoencoderTiny, factor 8, with unit-variance latents."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from PIL import Image
from torch import Tensor, nn

from . import checkpoint
from .art import read_art
from .scenes import Painter, SceneKind, paste, portraits, trim

CROP = 64  # pixels
BATCH = 16
PEAK_LEARNING_RATE = 1.5e-3


def new_autoencoder() -> AutoencoderTiny:
    """An untrained autoencoder: 8 latent channels, a narrow encoder, a wider decoder."""
    return AutoencoderTiny(
        latent_channels=8,
        encoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(1, 1, 2, 2),
        decoder_block_out_channels=(48, 48, 48, 48),
        num_decoder_blocks=(3, 3, 2, 1),
    )


class Crops:
    """Endless 64 x 64 crops of pasted art: the named world's and all else not held out."""

    def __init__(self, painter: Painter, pack: Path) -> None:
        """Read every picture of the pack but the held-out ones."""
        self.painter = painter
        self.named = list(painter.art.values())
        self.others = [
            trim(a) for style in painter.world.styles for a in read_art(pack, style).values()
        ]

    def draw(self, rng: np.random.Generator, count: int) -> Tensor:
        """(count, 3, 64, 64) pictures in [-1, 1]."""
        return as_pixels([self._crop(rng) for _ in range(count)])

    def _crop(self, rng: np.random.Generator) -> Image.Image:
        canvas, _ = self.painter.picture(rng, SceneKind(128, 128, fewest=0, most=0, scenery=0.6))
        pool = self.named if rng.random() < 0.7 else self.others
        size = int(rng.integers(40, 113))
        left, top = (int(rng.integers(16 - size // 2, 112 - size // 2)) for _ in range(2))
        paste(
            canvas,
            pool[rng.integers(len(pool))],
            (left, top, left + size, top + size),
            bool(rng.random() < 0.5),
        )
        centre_x, centre_y = left + size // 2, top + size // 2
        x = int(np.clip(centre_x + rng.integers(-size // 3, size // 3) - CROP // 2, 0, 64))
        y = int(np.clip(centre_y + rng.integers(-size // 3, size // 3) - CROP // 2, 0, 64))
        return canvas.crop((x, y, x + CROP, y + CROP))


def as_pixels(pictures: list[Image.Image]) -> Tensor:
    """Pictures of one size as (n, 3, height, width) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack([np.asarray(p) for p in pictures]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(pixels: Tensor, target: Tensor) -> Tensor:
    """Absolute and squared error, and the absolute error of edges; pictures (n, 3, h, w)."""
    edges = sum((pixels.diff(dim=axis) - target.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return (pixels - target).abs().mean() + 2 * (pixels - target).square().mean() + 0.5 * edges


def psnr(pixels: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    error = (pixels.clamp(-1, 1) - target).div(2).square().mean()
    return float(-10 * error.log10())


def train_encoder(painter: Painter, pack: Path, work: Path, minutes: float, seed: int = 0) -> None:
    """Train encoder and decoder, then fold the latents' mean and variance into the encoder.

    While training, a batch norm without weights stands between the two; its running statistics are
    what is folded. A fresh learning-rate decay spans each call's minutes.
    """
    device = checkpoint.best_device()
    model = new_autoencoder().to(device)
    norm = nn.BatchNorm2d(8, affine=False, momentum=0.02).to(device)
    state = checkpoint.read(work / "autoencoder.pt", device)
    if state:
        model.load_state_dict(state["model"])
        norm.load_state_dict(state["norm"])
    crops = Crops(painter, pack)
    rng = np.random.default_rng([seed, state["steps"] if state else 0])
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4, betas=(0.9, 0.98))
    steps, started, saved = (state["steps"] if state else 0), time.monotonic(), time.monotonic()
    for done in checkpoint.time_box(minutes):
        checkpoint.set_learning_rate(optimizer, PEAK_LEARNING_RATE, done)
        pixels = crops.draw(rng, BATCH).to(device)
        latents = norm(model.encoder(pixels))
        latents = latents + 0.05 * torch.randn_like(latents)
        output = model.decoder(latents)
        loss = reconstruction_loss(output, pixels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            logging.info(
                "autoencoder %d: %.2f dB, %.0f s",
                steps,
                psnr(output, pixels),
                time.monotonic() - started,
            )
        if time.monotonic() - saved > 60:
            checkpoint.write(
                work / "autoencoder.pt",
                model=model.state_dict(),
                norm=norm.state_dict(),
                steps=steps,
            )
            saved = time.monotonic()
    checkpoint.write(
        work / "autoencoder.pt", model=model.state_dict(), norm=norm.state_dict(), steps=steps
    )
    fold_normalisation(model, norm).save_pretrained(work / "vae")


def write_encoder_state(work: Path) -> None:
    """Make the step `encoder` go on from `work/vae`, whose folded norm is the identity."""
    model = AutoencoderTiny.from_pretrained(work / "vae")
    norm = nn.BatchNorm2d(8, affine=False)
    checkpoint.write(
        work / "autoencoder.pt", model=model.state_dict(), norm=norm.state_dict(), steps=0
    )


def train_decoder(painter: Painter, pack: Path, work: Path, minutes: float, seed: int = 1) -> None:
    """Train the decoder further, its encoder frozen, on slightly noisy latents."""
    device = checkpoint.best_device()
    model = AutoencoderTiny.from_pretrained(work / "vae").to(device)
    model.encoder.requires_grad_(False)
    average = copy.deepcopy(model.decoder)
    crops = Crops(painter, pack)
    rng = np.random.default_rng([seed, int(time.time())])
    optimizer = torch.optim.AdamW(model.decoder.parameters(), weight_decay=1e-4, betas=(0.9, 0.98))
    for step, done in enumerate(checkpoint.time_box(minutes)):
        checkpoint.set_learning_rate(optimizer, PEAK_LEARNING_RATE / 2, done)
        pixels = crops.draw(rng, BATCH).to(device)
        with torch.no_grad():
            latents = model.encoder(pixels)
            latents = latents + 0.1 * torch.rand(len(latents), 1, 1, 1).to(
                device
            ) * torch.randn_like(latents)
        output = model.decoder(latents)
        loss = reconstruction_loss(output, pixels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        checkpoint.move_average(average, model.decoder, 0.98)
        if step % 50 == 0:
            logging.info("decoder %d: %.2f dB", step, psnr(output, pixels))
    model.decoder = average
    model.save_pretrained(work / "vae")


def fold_normalisation(model: AutoencoderTiny, norm: nn.BatchNorm2d) -> AutoencoderTiny:
    """The same autoencoder with (z - mean) / deviation inside the encoder's last convolution."""
    folded = copy.deepcopy(model)
    last = folded.encoder.layers[-1]
    assert norm.running_mean is not None and norm.running_var is not None
    deviation = (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        last.bias.copy_((last.bias - norm.running_mean) / deviation)
        last.weight.div_(deviation[:, None, None, None])
    return folded


@dataclass(frozen=True)
class Fidelity:
    """PSNR in dB through the autoencoder, of compositions never drawn before.

    known: of the world's own art. held_out: of art that no part of the base has seen.
    """

    known: float
    held_out: float


def measure(painter: Painter, pack: Path, work: Path, count: int = 24) -> Fidelity:
    """Reconstruct `count` pictures of each sort; leaves work/reconstructions.png to look at."""
    model = AutoencoderTiny.from_pretrained(work / "vae").eval()
    rng = np.random.default_rng(31)
    kind = SceneKind(128, 128, 1, 2, 56, 112, 0.7)
    known = as_pixels([painter.picture(rng, kind)[0] for _ in range(count)])
    art = [trim(piece) for piece in read_art(pack, "held_out").values()]
    chosen = rng.choice(len(art), count, replace=len(art) < count)
    unseen = as_pixels([portraits(painter, art[index], 1, rng)[0] for index in chosen])
    drawn = [reconstruct(model, pixels) for pixels in (known, unseen)]
    rows = [some[: count // 2] for some in (known, drawn[0], unseen, drawn[1])]
    grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = ((grid.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    Image.fromarray(pixels).save(work / "reconstructions.png")
    return Fidelity(psnr(drawn[0], known), psnr(drawn[1], unseen))


@torch.no_grad()
def reconstruct(model: AutoencoderTiny, pixels: Tensor) -> Tensor:
    """(n, 3, h, w) pictures in [-1, 1] through the autoencoder, a few at a time."""
    return torch.cat(
        [model.decode(model.encode(some).latents).sample.clamp(-1, 1) for some in pixels.split(8)]
    )
