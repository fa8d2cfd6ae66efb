"""Lightning's Trainer from what a person typed: what it refuses is told in a line, at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import torch
from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins import Precision

from toolkit.config.trainer_values import Work, check_values
from toolkit.errors import InputError, one_line, shortened

_WITHOUT_EFFECT = {
    "check_val_every_n_epoch", "enable_autolog_hparams", "enable_checkpointing", "inference_mode",
    "limit_test_batches", "limit_val_batches", "log_every_n_steps", "model_registry",
    "num_sanity_val_steps", "use_distributed_sampler", "val_check_interval",
}  # fmt: skip
_OF_TRAINING = {
    "accumulate_grad_batches", "gradient_clip_algorithm", "gradient_clip_val",
    "limit_train_batches", "max_time", "min_epochs", "min_steps", "overfit_batches",
    "reload_dataloaders_every_n_epochs",
}  # fmt: skip
_UNUSED = {
    Work.TRAIN: _WITHOUT_EFFECT | {"limit_predict_batches"},
    Work.COMPOSE: _WITHOUT_EFFECT | _OF_TRAINING | {"enable_progress_bar"},
}
"""Nothing is validated, logged or stored through Lightning, so these would change nothing."""

_OURS: Mapping[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "use_distributed_sampler": False,
    "inference_mode": False,
}

_MOST_ON_CPU = max(64, os.cpu_count() or 1)


class BaseInThisType(Precision):
    """`bf16-true` and its like: the base is held in this type, what is trained in float32.

    Lightning's own would also halve noise, masks and the optimiser, and refuses frozen batches.
    """

    def __init__(self, precision: Any) -> None:
        self.precision = precision


@dataclass(frozen=True)
class CheckedTrainer:
    """What was typed for a Trainer, once Lightning has taken it.

    used: the arguments that have an effect here.
    precision: as Lightning calls what is used, which may be another than was typed.
    processes: how many work together, on all nodes.
    remarks: what is not used, or otherwise than asked.
    device: of this process.
    """

    used: Mapping[str, Any]
    precision: str
    processes: int
    remarks: tuple[str, ...]
    device: torch.device

    def make(self, **ours: Any) -> Trainer:
        """A Trainer with what was typed, and what the command sets itself (`ours`).

        Raises InputError, with Lightning's own reason, when the two do not go together.
        """
        used = self.used
        if self.precision.endswith("-true"):
            used = {**used, "precision": None, "plugins": [BaseInThisType(self.precision)]}
        return _construct(used, {**_OURS, **ours})

    def dtype_of_base(self, chosen: str | None) -> torch.dtype:
        """The type that the base's weights are held in: `chosen`, or what the precision says."""
        if chosen is not None:
            named: torch.dtype = getattr(torch, chosen)
            return named
        known = {"16": torch.float16, "bf16": torch.bfloat16, "64": torch.float64}
        return known.get(self.precision.split("-")[0], torch.float32)


def check_trainer(typed: Mapping[str, Any], work: Work) -> CheckedTrainer:
    """Whether Lightning takes all that was typed, also what has no effect on this work.

    Raises InputError, with Lightning's own reason, naming the argument.
    """
    check_values(typed, work, get_type_hints(Trainer.__init__))
    trainer = _construct(typed, _OURS)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > _MOST_ON_CPU:
        raise InputError(
            f"trainer.devices={trainer.num_devices}: this machine has {os.cpu_count()} cores",
            "trainer.devices",
        )
    remarks = [f"trainer.{name} has no effect here" for name in typed if name in _UNUSED[work]]
    asked = str(typed.get("precision"))
    if asked in ("16", "16-mixed") and trainer.precision != "16-mixed":
        remarks.append(f"trainer.precision={asked}: not on a CPU, bf16-mixed is used")
    return CheckedTrainer(
        used={name: value for name, value in typed.items() if name not in _UNUSED[work]},
        precision=str(trainer.precision),
        processes=trainer.num_devices * trainer.num_nodes,
        remarks=tuple(remarks),
        device=trainer.strategy.root_device,
    )


def told_of(trainer: Trainer, precision: str) -> str:
    """Where a Trainer works, and how: `cpu, 32-true`, `2 processes on cuda, bf16-mixed`."""
    kind = trainer.strategy.root_device.type
    together = f"{trainer.world_size} processes on " if trainer.world_size > 1 else ""
    return f"{together}{kind}, {precision}"


def _construct(typed: Mapping[str, Any], ours: Mapping[str, Any]) -> Trainer:
    """A Trainer; whatever Lightning raises is about an argument, so it is told as one."""
    try:
        return Trainer(**{"enable_model_summary": False, **typed, **ours})
    except Exception as error:
        name = _culprit(typed, ours)
        where = f"trainer.{name}={shortened(str(typed[name]))}" if name else "trainer"
        path = f"trainer.{name}" if name else "trainer"
        raise InputError(f"{where}: {one_line(error)}", path) from error


def _culprit(typed: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """The argument without which Lightning is content; None when it is no single one."""
    for name in typed:
        others = {key: value for key, value in typed.items() if key != name}
        try:
            Trainer(**{**others, **ours})
        except Exception:  # another argument is to blame
            continue
        return name
    return None
