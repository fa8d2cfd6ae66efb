"""Compositions in Weights & Biases: a table with picture, attention maps and losses."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from toolkit.batch.composition import Composition
from toolkit.errors import one_line
from toolkit.tracking.wandb import start_run, tell_where

log = logging.getLogger(__name__)


class CompositionTable(Callback):
    """Logs up to `max_images` pictures of each process, each with its figure and losses."""

    def __init__(self, project: str, max_images: int, folder: Path) -> None:
        self.project = project
        self.max_images = max_images
        self.folder = folder
        self.rows: list[list[Any]] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        compositions: Sequence[Composition] = outputs
        for composition in compositions:
            item = composition.item
            if composition.error or len(self.rows) >= self.max_images:
                continue
            losses = [step.losses["total"] for step in composition.steps]
            ends = [losses[0], losses[-1]] if losses else [None, None]
            pictures = [
                wandb.Image(str(path)) if path.is_file() else None
                for path in (
                    item.path(self.folder, ".png"),
                    item.path(self.folder, "_attention.png"),
                    item.path(self.folder, "_losses.png"),
                )
            ]
            self.rows.append([item.layout.name, item.seed, *pictures, *ends, len(losses)])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What W&B refuses is said: the pictures are there, and their manifest is still to come."""
        try:
            self._log(trainer)
        except (wandb.Error, OSError, ValueError) as error:
            log.error("W&B has no record of this run: %s", one_line(error))

    def _log(self, trainer: Trainer) -> None:
        columns = ["layout", "seed", "image", "attention", "losses"]
        columns += ["loss_first", "loss_last", "guidance_steps"]
        several = trainer.world_size > 1
        with start_run(
            self.project,
            self.folder,
            "compose",
            name=f"process {trainer.global_rank}" if several else None,
            group=_group_of(self.folder) if several else None,
        ) as run:
            run.log({"compositions": wandb.Table(columns=columns, data=self.rows)})
        tell_where(run, several)


def _group_of(folder: Path) -> str:
    """One name for all processes that fill a folder, whoever started them."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return f"compose {folder.name} {digest}"
