"""Text tower and U-Net: Stable Diffusion's wiring, small, trained jointly from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import checkpoint
from .scenes import Painter
from .stages import STAGES
from .words import WINDOW, learn_tokenizer

DIM = 192
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
SHORT_WINDOW = 32  # tokens; holds every caption of one object


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


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(n, 77) token ids, padded as StableDiffusionPipeline pads."""
    batch = tokenizer(
        captions, padding="max_length", max_length=WINDOW, truncation=True, return_tensors="pt"
    )
    return batch.input_ids


def velocity_errors(
    unet: UNet2DConditionModel,
    schedule: DDPMScheduler,
    latents: Tensor,
    prompt_embeds: Tensor,
    noise: Tensor,
    timesteps: Tensor,
) -> Tensor:
    """(n,) mean squared errors of the predicted velocity sqrt(a) noise - sqrt(1 - a) latents.

    latents, noise: (n, 8, h, w); prompt_embeds: (n, tokens, DIM); timesteps: (n,).
    """
    noisy = schedule.add_noise(latents, noise, timesteps)
    target = schedule.get_velocity(latents, noise, timesteps)
    predicted = unet(noisy, timesteps, prompt_embeds).sample
    return F.mse_loss(predicted.float(), target, reduction="none").mean(dim=(1, 2, 3))


def velocity_loss(
    unet: UNet2DConditionModel,
    schedule: DDPMScheduler,
    latents: Tensor,
    prompt_embeds: Tensor,
    leaning: float,
    min_snr: float | None = None,
) -> Tensor:
    """The mean of `velocity_errors` at random timesteps, weighted where `min_snr` says so.

    Half of the timesteps are uniform, half lean to the logit `leaning` of the schedule.
    min_snr: gamma of Hang et al. 2023; the weight for velocities is min(SNR, gamma) / (SNR + 1).
    """
    noise = torch.randn_like(latents)
    uniform = torch.rand(len(latents), device=latents.device)
    leant = torch.sigmoid(leaning + torch.randn_like(uniform))
    share = torch.where(torch.rand_like(uniform) < 0.5, uniform, leant)
    timesteps = (share * schedule.config.num_train_timesteps).long()
    errors = velocity_errors(unet, schedule, latents, prompt_embeds, noise, timesteps)
    if min_snr is not None:
        kept = schedule.alphas_cumprod.to(latents.device)[timesteps]
        snr = kept / (1 - kept)
        weights = snr.clamp(max=min_snr) / (snr + 1)
        errors = errors * weights / weights.mean()
    return errors.mean()


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
