"""Text tower and U-Net: Stable Diffusion's wiring, small, trained jointly from nothing."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import checkpoint
from .autoencoder import as_pixels
from .scenes import Painter, SceneKind
from .words import WINDOW, learn_tokenizer

DIM = 192
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
EMPTY_PROMPTS = 0.1
AVERAGE_DECAY = 0.995
SHORT_WINDOW = 32  # tokens; holds every caption of one object

# The curriculum: what each stage draws, and with which weight.
STAGES: dict[str, list[tuple[float, SceneKind]]] = {
    "single": [(1.0, SceneKind(64, 64, 1, 1, 44, 62, 0.4))],
    "scene": [
        (0.4, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.45, SceneKind(128, 128, 1, 1, 64, 112, 0.7)),
        (0.15, SceneKind(128, 128, 1, 2, 44, 100, 0.7)),
    ],
    "wide": [
        (0.2, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.4, SceneKind(128, 128, 1, 1, 56, 112, 0.7)),
        (0.1, SceneKind(128, 128, 1, 2, 44, 80, 0.7)),
        (0.25, SceneKind(256, 128, 2, 3, 76, 110, 0.7)),
        (0.05, SceneKind(128, 256, 2, 3, 76, 110, 0.7)),
    ],
    "pairs": [
        # small canvases cost a quarter: that is where two names learn to keep apart
        (0.10, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.10, SceneKind(128, 128, 1, 1, 64, 112, 0.7)),
        (0.60, SceneKind(128, 64, 2, 2, 44, 62, 0.5)),
        (0.03, SceneKind(64, 128, 2, 2, 44, 62, 0.5)),
        (0.15, SceneKind(256, 128, 2, 2, 76, 112, 0.7)),
        (0.02, SceneKind(384, 128, 3, 3, 76, 112, 0.7)),
    ],
    "several": [
        # never one alone on a large canvas: it may stand anywhere, and is then lost from its box
        (0.08, SceneKind(64, 64, 1, 1, 44, 62, 0.5)),
        (0.17, SceneKind(128, 128, 1, 1, 64, 112, 0.7)),
        (0.22, SceneKind(128, 64, 2, 2, 44, 62, 0.5)),
        (0.36, SceneKind(256, 128, 2, 2, 76, 112, 0.7)),
        (0.06, SceneKind(384, 128, 3, 3, 76, 112, 0.7)),
        (0.03, SceneKind(128, 256, 2, 2, 76, 112, 0.7)),
        (0.05, SceneKind(256, 256, 3, 4, 76, 112, 0.7)),
        (0.03, SceneKind(384, 256, 4, 6, 76, 112, 0.7)),
    ],
}

# Half of a stage's timesteps lean to where it has most to learn: the logit of their mean share of
# the schedule. A picture's content is decided in the middle, who stands where before that.
CONTENT, LAYOUT = 0.4, 1.2
LEANING = {"single": CONTENT, "scene": CONTENT, "wide": CONTENT, "pairs": LAYOUT, "several": LAYOUT}


@dataclass
class TextToImage:
    """The two networks that are trained together, and their vocabulary."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel


def new_model(tokenizer: CLIPTokenizer) -> TextToImage:
    """Untrained networks. Word embeddings start at deviation 0.5: at 0.02 names stay alike long."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=DIM,
        intermediate_size=4 * DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        projection_dim=DIM,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text_encoder = CLIPTextModel(config)
    nn.init.normal_(text_encoder.get_input_embeddings().weight, std=0.5)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 128, 160, 160),
        attention_head_dim=4,
        norm_num_groups=16,
        cross_attention_dim=DIM,
    )
    return TextToImage(tokenizer, text_encoder, unet)


def draw_bank(
    painter: Painter, vae: AutoencoderTiny, kind: SceneKind, count: int, rng: np.random.Generator
) -> tuple[Tensor, list[str]]:
    """Latents (count, 8, h/8, w/8) in half precision of random pictures, and their captions."""
    device = vae.device
    latents, captions = [], []
    for start in range(0, count, 32):
        drawn = [painter.picture(rng, kind) for _ in range(min(32, count - start))]
        with torch.no_grad():
            pixels = as_pixels([picture for picture, _ in drawn]).to(device)
            latents.append(vae.encode(pixels).latents.half().cpu())
        captions += [caption for _, caption in drawn]
    return torch.cat(latents), captions


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(n, 77) token ids, padded as StableDiffusionPipeline pads."""
    batch = tokenizer(
        captions, padding="max_length", max_length=WINDOW, truncation=True, return_tensors="pt"
    )
    return batch.input_ids


def velocity_loss(
    model: TextToImage, schedule: DDPMScheduler, latents: Tensor, ids: Tensor, leaning: float
) -> Tensor:
    """Mean squared error of the predicted velocity sqrt(a) noise - sqrt(1 - a) latents.

    latents: (n, 8, h, w); ids: (n, 77). Half of the timesteps are uniform, half lean to the logit
    `leaning` of the schedule.
    """
    noise = torch.randn_like(latents)
    uniform = torch.rand(len(latents), device=latents.device)
    leant = torch.sigmoid(leaning + torch.randn_like(uniform))
    share = torch.where(torch.rand_like(uniform) < 0.5, uniform, leant)
    timesteps = (share * schedule.config.num_train_timesteps).long()
    noisy = schedule.add_noise(latents, noise, timesteps)
    target = schedule.get_velocity(latents, noise, timesteps)
    prompt_embeds = model.text_encoder(ids).last_hidden_state
    return F.mse_loss(model.unet(noisy, timesteps, prompt_embeds).sample, target)


def cells(kind: SceneKind) -> int:
    """How many squares of 64 x 64 pixels a canvas holds: what a picture of it costs."""
    return kind.width * kind.height // 4096


class Bank:
    """Encoded pictures of one stage, redrawn piece by piece as they are used up."""

    def __init__(
        self,
        painter: Painter,
        vae: AutoencoderTiny,
        tokenizer: CLIPTokenizer,
        stage: str,
        seed: int,
    ) -> None:
        """Nothing is drawn until it is asked for."""
        self.painter, self.vae, self.tokenizer = painter, vae, tokenizer
        self.kinds = STAGES[stage]
        self.rng = np.random.default_rng(seed)
        self.held: list[tuple[Tensor, Tensor]] = [
            self._draw(kind, min(1024, max(256, 4096 // cells(kind)))) for _, kind in self.kinds
        ]
        self.used = 0

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents and token ids of `count` pictures at 64 x 64, of fewer on larger canvases."""
        weights = np.array([weight for weight, _ in self.kinds])
        index = int(self.rng.choice(len(self.kinds), p=weights / weights.sum()))
        kind = self.kinds[index][1]
        if self.rng.random() < 0.25:
            self._redraw(index, 24)
        latents, ids = self.held[index]
        area = cells(kind)
        count = max(8, min(count // min(area, 2), 4 * count // area))
        chosen = self.rng.choice(len(latents), count, replace=False)
        return latents[chosen].float(), self._cut(ids[chosen])

    def _cut(self, ids: Tensor) -> Tensor:
        """Mostly without the padding's long tail: a fifth of a small picture's step."""
        fits = bool((ids[:, SHORT_WINDOW - 1] == self.tokenizer.pad_token_id).all())
        return ids[:, :SHORT_WINDOW] if fits and self.rng.random() < 0.75 else ids

    def _draw(self, kind: SceneKind, count: int) -> tuple[Tensor, Tensor]:
        latents, captions = draw_bank(self.painter, self.vae, kind, count, self.rng)
        captions = ["" if self.rng.random() < EMPTY_PROMPTS else caption for caption in captions]
        return latents, token_ids(self.tokenizer, captions)

    def _redraw(self, index: int, count: int) -> None:
        fresh, ids = self._draw(self.kinds[index][1], count)
        places = torch.from_numpy(self.rng.choice(len(self.held[index][0]), count, replace=False))
        self.held[index][0][places], self.held[index][1][places] = fresh, ids


def train(
    painter: Painter,
    work: Path,
    stage: str,
    minutes: float,
    peak: float,
    freeze_text: bool = False,
    batch: int = 32,
    seed: int = 0,
) -> None:
    """One stage of the curriculum for some minutes, from the last checkpoint or from nothing.

    freeze_text: train the U-Net alone, so that a scorer beside the text tower stays valid.
    The learning rate warms up and decays within each call, so that any call leaves a usable model.
    """
    device = checkpoint.best_device()
    vae = AutoencoderTiny.from_pretrained(work / "vae").to(device).eval()
    tokenizer = read_tokenizer(painter, work)
    model = new_model(tokenizer)
    networks = nn.ModuleDict({"text_encoder": model.text_encoder, "unet": model.unet}).to(device)
    model.unet.to(memory_format=torch.channels_last)  # a tenth faster on a CPU
    average = copy.deepcopy(networks)
    model.text_encoder.requires_grad_(not freeze_text)
    trained = [weight for weight in networks.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    state = checkpoint.read(work / "text_to_image.pt", device)
    steps, samples = 0, 0
    if state:
        networks.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        # none after `restore`: a published folder holds weights only
        if state["optimizer"] and len(state["optimizer"]["state"]) == len(trained):
            optimizer.load_state_dict(state["optimizer"])
        steps, samples = state["steps"], state["samples"]
    schedule = DDPMScheduler(**NOISE)
    bank = Bank(painter, vae, tokenizer, stage, seed + steps)

    def save() -> None:
        checkpoint.write(
            work / "text_to_image.pt",
            model=networks.state_dict(),
            average=average.state_dict(),
            optimizer=optimizer.state_dict(),
            steps=steps,
            samples=samples,
        )

    losses: list[float] = []
    saved = time.monotonic()
    for done in checkpoint.time_box(minutes):
        checkpoint.set_learning_rate(optimizer, peak, done)
        latents, ids = bank.batch(batch)
        loss = velocity_loss(model, schedule, latents.to(device), ids.to(device), LEANING[stage])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        optimizer.step()
        steps, samples = steps + 1, samples + len(latents)
        checkpoint.move_average(average, networks, min(AVERAGE_DECAY, (1 + steps) / (10 + steps)))
        losses.append(float(loss.detach()))
        if steps % 50 == 0:
            logging.info(
                "%s %d steps, %d samples: loss %.4f", stage, steps, samples, np.mean(losses[-200:])
            )
        if time.monotonic() - saved > 150:
            save()
            saved = time.monotonic()
    save()


def read_tokenizer(painter: Painter, work: Path) -> CLIPTokenizer:
    """The work folder's tokenizer; learned from captions of all stages if there is none yet."""
    folder = work / "tokenizer"
    if not folder.exists():
        rng = np.random.default_rng(0)
        kinds = [kind for stage in STAGES.values() for _, kind in stage]
        learn_tokenizer(
            painter.picture(rng, kinds[i % len(kinds)])[1] for i in range(6000)
        ).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def read_average(painter: Painter, work: Path) -> tuple[TextToImage, int, int]:
    """The averaged networks of the last checkpoint, and the steps and samples they have seen."""
    model = new_model(read_tokenizer(painter, work))
    networks = nn.ModuleDict({"text_encoder": model.text_encoder, "unet": model.unet})
    state = checkpoint.read(work / "text_to_image.pt", torch.device("cpu"))
    if state is None:
        raise SystemExit(f"{work} holds no text_to_image.pt: run the step `train` first")
    networks.load_state_dict(state["average"])
    return model, state["steps"], state["samples"]


def sampling_scheduler() -> DPMSolverMultistepScheduler:
    """The scheduler that is published: DPM-Solver++ of second order."""
    return DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2, **NOISE)
