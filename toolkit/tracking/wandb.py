"""Compositions in Weights & Biases: a table with picture, attention maps and losses."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from toolkit.composition.module import Composition


def wandb_mode() -> str:
    """`online` when the person is logged in, else `offline`; it never asks."""
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if wandb.login(prompt=False) else "offline"


def start_run(
    project: str,
    folder: Path,
    job_type: str,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> wandb.Run:
    """A run whose files lie under `folder`."""
    return wandb.init(
        project=project,
        name=name,
        dir=str(folder),
        mode=wandb_mode(),  # type: ignore[arg-type]
        job_type=job_type,
        config=None if config is None else dict(config),
        settings=wandb.Settings(silent=True),
    )


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
        columns = ["layout", "seed", "image", "attention", "losses"]
        columns += ["loss_first", "loss_last", "guidance_steps"]
        with start_run(self.project, self.folder, "compose") as run:
            run.log({"compositions": wandb.Table(columns=columns, data=self.rows)})
