"""Time-boxed training: whole checkpoints, a learning rate that fits the box, moving averages."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def time_box(minutes: float) -> Iterator[float]:
    """Yield the share of the minutes that has passed, until they are over."""
    started = time.monotonic()
    while (done := (time.monotonic() - started) / (60 * minutes)) < 1:
        yield done


def set_learning_rate(
    optimizer: torch.optim.Optimizer, peak: float, done: float, floor: float = 0.02
) -> None:
    """A short warm-up, then a cosine decay to `floor` of the peak; `done` in [0, 1]."""
    shape = min(1.0, done / 0.03) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = peak * shape


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * model, weight by weight."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def read(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What `write` left, or None."""
    return torch.load(path, map_location=device, weights_only=True) if path.exists() else None


def write(path: Path, **state: Any) -> None:
    """Save under a temporary name, then rename: a killed run leaves a whole file."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
