"""Write each finished picture at once, its SEED.json last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors.torch import save_file

from toolkit.composition.journal import DONE, FAILED, Recipe, write_entry
from toolkit.composition.module import Composition
from toolkit.files import sha256_of, whole_file
from toolkit.tracking.figures import attention_figure, loss_figure, save_figure


class CompositionWriter(Callback):
    """Writes SEED.png, the figures and SEED.json under `folder`, and counts failures.

    A base without an autoencoder leaves SEED.safetensors (latents) in place of the picture.
    """

    def __init__(self, folder: Path, recipe: Recipe, figures: bool) -> None:
        self.folder = folder
        self.recipe = recipe
        self.figures = figures
        self.failed = 0

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
            self.write(composition, trainer.global_rank)

    def write(self, composition: Composition, rank: int) -> None:
        """Write one picture's files. Raises OSError when the disk does not take them."""
        item = composition.item
        entry: dict[str, Any] = {
            "inputs": self.recipe.inputs(item),
            "losses": [step.losses["total"] for step in composition.steps],
            "seconds": round(composition.seconds, 3),
            "rank": rank,
            "status": FAILED if composition.error else DONE,
            "error": composition.error,
        }
        if composition.error:
            self.failed += 1
        else:
            image = self._write_result(composition)
            entry |= {"image": str(image.relative_to(self.folder)), "sha256": sha256_of(image)}
            if self.figures and composition.steps:
                self._write_figures(composition)
        write_entry(item.path(self.folder, ".json"), entry)

    def _write_result(self, composition: Composition) -> Path:
        item = composition.item
        if composition.pixels is None:
            path = item.path(self.folder, ".safetensors")
            assert composition.latents is not None
            with whole_file(path) as temporary:
                save_file({"latents": composition.latents}, temporary)
            return path
        path = item.path(self.folder, ".png")
        with whole_file(path) as temporary:
            to_image(composition.pixels).save(temporary)
        return path

    def _write_figures(self, composition: Composition) -> None:
        item = composition.item
        picture = None if composition.pixels is None else to_image(composition.pixels)
        save_figure(
            attention_figure(picture, item.layout, composition.steps),
            item.path(self.folder, "_attention.png"),
        )
        title = f"{item.layout.name}, seed {item.seed}"
        save_figure(loss_figure(composition.steps, title), item.path(self.folder, "_losses.png"))


def to_image(pixels: torch.Tensor) -> Image.Image:
    """(3, height, width) in 0..1 to an 8-bit RGB image."""
    array = (pixels.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return Image.fromarray(array)
