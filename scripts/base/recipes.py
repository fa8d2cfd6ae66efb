"""Recipes of training: what optimises which weights, how fast, over which averages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from .muon import Muon


@dataclass(frozen=True)
class Recipe:
    """One way to train text tower and U-Net.

    learning_rate: the U-Net's, at its peak. text_rate: the text tower's share of it; 0 leaves the
    tower as it is, so that a scorer beside it stays valid. min_snr: gamma of the loss's weights.
    decays: of the moving averages; the one with the least validation loss is kept.
    batch: pictures of 128 x 128 a step, or as many others as cost that; None: the device's own.
    """

    optimizer: str = "muon"
    learning_rate: float = 1e-3
    text_rate: float = 0.0
    min_snr: float | None = None
    decays: tuple[float, ...] = (0.995, 0.999, 0.9995)
    batch: int | None = None


# What `build_base.py recipes` compares; the first is how the first edition was trained.
RECIPES = {
    "first": Recipe("adamw", 4e-4, batch=16, decays=(0.995,)),
    "adamw": Recipe("adamw", 6e-4),
    "adamw-fast": Recipe("adamw", 1.2e-3),
    "muon": Recipe("muon", 1e-3),
    "muon-fast": Recipe("muon", 2e-3),
    "muon-text": Recipe("muon", 1e-3, text_rate=0.3),
    "muon-text-snr": Recipe("muon", 1e-3, text_rate=0.3, min_snr=5.0),
    "long": Recipe("muon", 2e-3, text_rate=0.1, decays=(0.995, 0.999, 0.9995)),
}


def optimizers(
    recipe: Recipe, unet: nn.Module, text_encoder: nn.Module
) -> list[torch.optim.Optimizer]:
    """Muon for the U-Net's inner matrices and AdamW for all else, or AdamW for everything."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in unet.named_parameters():
        inner = weight.ndim > 1 and not name.startswith(("conv_in", "conv_out", "time_embedding"))
        (matrices if inner and recipe.optimizer == "muon" else others).append(weight)
    groups = [{"params": others, "lr": recipe.learning_rate}]
    if recipe.text_rate:
        rate = recipe.text_rate * recipe.learning_rate
        groups.append({"params": list(text_encoder.parameters()), "lr": rate})
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    ]
    if matrices:
        made.append(Muon(matrices, recipe.learning_rate))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def set_rates(made: list[torch.optim.Optimizer], done: float) -> None:
    """A short warm-up, then half a cosine to zero; `done` in [0, 1] of the whole stretch."""
    shape = min(1.0, done / 0.03) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    for optimizer in made:
        for group in optimizer.param_groups:
            rate = group["peak"] * shape
            if isinstance(group["lr"], torch.Tensor):  # a captured update reads it there
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
