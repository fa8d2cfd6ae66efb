"""The optimisers, their groups and schedules: each through the package that its authors keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from toolkit.backbones import Place, TrainedMap
from toolkit.errors import InputError, one_line

Groups = list[dict[str, Any]]
Decay = dict[str, Any]


@dataclass(frozen=True)
class LearningRates:
    """Rates at their height; what has a rate of 0 is not trained.

    places: of the LoRA, by what its maps belong to.
    lora_plus: the rate of a LoRA's up halves over that of its down halves (LoRA+, 2402.12354).
    """

    places: Mapping[Place, float]
    embeddings: float
    lora_plus: float = 1.0


@dataclass(frozen=True)
class Optimisation:
    """How the rates are used. Names and meanings are those of `TrainingConfig`."""

    optimizer: str = "adam"
    schedule: str | None = None
    warmup_steps: int = 0
    weight_decay: float | None = None


AS_PUBLISHED = Optimisation()
"""Mix-of-Show's: Adam, and rates that fall linearly to 0 at the last step."""


def parameter_groups(
    maps: Sequence[TrainedMap], embeddings: Sequence[nn.Parameter], rates: LearningRates
) -> Groups:
    """A group for each place and rate, those of 0 left out; `name` says which place.

    Both attentions of the U-Net are one, `unet`, where they have one rate.
    """
    found: dict[tuple[str, float], list[nn.Parameter]] = {}
    unet = (Place.SELF_ATTENTION, Place.CROSS_ATTENTION)
    is_one = rates.places[unet[0]] == rates.places[unet[1]]
    for trained in maps:
        name = "unet" if is_one and trained.place in unet else str(trained.place)
        rate = rates.places[trained.place]
        for half, own in ((trained.down, rate), (trained.up, rate * rates.lora_plus)):
            found.setdefault((name, own), []).append(half)
    found[("embeddings", rates.embeddings)] = list(embeddings)
    return [
        {"name": name, "params": parameters, "lr": rate}
        for (name, rate), parameters in found.items()
        if rate > 0
    ]


def make_optimiser(chosen: Optimisation, groups: Groups, device: torch.device) -> Any:
    """The optimiser over `groups`. Raises InputError where it cannot run here."""
    maker = getattr(_Makers, chosen.optimizer)
    decay: Decay = {} if chosen.weight_decay is None else {"weight_decay": chosen.weight_decay}
    try:
        if chosen.optimizer == "adamw8bit":
            _try(maker, device)
        return maker(groups, chosen, decay)
    except Exception as error:  # each package has errors of its own
        raise InputError(
            f"training.optimizer={chosen.optimizer} cannot run here ({one_line(error)}): take "
            "training.optimizer=adamw",
            "training.optimizer",
        ) from error


class _Makers:
    """One function for each optimiser; packages are imported when they are asked for."""

    @staticmethod
    def adam(groups: Groups, _chosen: Optimisation, _decay: Decay) -> Any:
        return torch.optim.Adam(groups)

    @staticmethod
    def adamw(groups: Groups, _chosen: Optimisation, decay: Decay) -> Any:
        return torch.optim.AdamW(groups, **decay)

    @staticmethod
    def adamw8bit(groups: Groups, _chosen: Optimisation, decay: Decay) -> Any:
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, **decay)

    @staticmethod
    def prodigy(groups: Groups, _chosen: Optimisation, decay: Decay) -> Any:
        """It finds the rate itself, one for all: those that are given say what trains."""
        from prodigyopt import Prodigy

        return Prodigy([{**group, "lr": 1.0} for group in groups], lr=1.0, **decay)

    @staticmethod
    def adafactor(groups: Groups, _chosen: Optimisation, decay: Decay) -> Any:
        """At the rates that are given, without its own schedule."""
        from transformers.optimization import Adafactor

        return Adafactor(groups, scale_parameter=False, relative_step=False, **decay)

    @staticmethod
    def schedulefree(groups: Groups, chosen: Optimisation, decay: Decay) -> Any:
        from schedulefree import AdamWScheduleFree

        optimiser = AdamWScheduleFree(groups, warmup_steps=chosen.warmup_steps, **decay)
        optimiser.train()
        return optimiser

    @staticmethod
    def lion(groups: Groups, _chosen: Optimisation, decay: Decay) -> Any:
        from lion_pytorch import Lion

        return Lion(groups, **decay)


def schedule_of(chosen: Optimisation, optimiser: Any, steps: int) -> Any:
    """A scheduler that is stepped once for each step of the optimiser.

    linear without a warm-up is the recipe's own: to 0 at the last step.
    """
    name = chosen.schedule or "linear"
    warmup = chosen.warmup_steps
    if chosen.optimizer == "schedulefree":
        name, warmup = "constant", 0
    if name == "linear" and not warmup:
        return LambdaLR(optimiser, lambda step: 1 - step / steps)
    from diffusers.optimization import get_scheduler

    if name == "constant" and warmup:
        name = "constant_with_warmup"
    return get_scheduler(name, optimiser, num_warmup_steps=warmup, num_training_steps=steps)


def _try(maker: Any, device: torch.device) -> None:
    """One step on a tensor of its own: bitsandbytes says there what it lacks."""
    tried = nn.Parameter(torch.ones(64, 64, device=device))
    tried.grad = torch.ones_like(tried)
    maker([{"params": [tried], "lr": 1e-3}], Optimisation(), {}).step()


def averaged(average: Tensor, value: Tensor, decay: float, step: int) -> Tensor:
    """The running average after `step` steps: it follows faster at first, as (1 + n) / (10 + n)."""
    share = min(decay, (1 + step) / (10 + step))
    return average * share + value * (1 - share)
