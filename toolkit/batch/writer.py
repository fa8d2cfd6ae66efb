"""Write each finished picture at once, its SEED.json last."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file

from toolkit.batch.composition import Composition, failure
from toolkit.batch.journal import DONE, FAILED, Recipe, clear, write_entry
from toolkit.batch.provenance import text_chunks
from toolkit.files import DISK_IS_FULL, sha256_of, whole_file
from toolkit.images.tensors import image_of
from toolkit.tracking.figures import attention_figure, loss_figure, save_figure

log = logging.getLogger(__name__)


class CompositionWriter(Callback):
    """Writes SEED.png, the figures and SEED.json under `folder`, and counts failures.

    A base without an autoencoder leaves SEED.safetensors (latents) in place of the picture.
    provenance: the PNG says itself what it was made from.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, figures: bool, provenance: bool = True
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.figures = figures
        self.provenance = provenance
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
        """Write one picture's files, or why there are none.

        Raises OSError when the disk takes nothing more; what is wrong with one place is said.
        """
        written: Mapping[str, str] = {}
        try:
            if composition.error is None:
                composition, written = self._attempt(composition)
            self.failed += composition.error is not None
            self._write_entry(composition, rank, written)
        except OSError as error:
            if error.errno in DISK_IS_FULL:
                raise
            item = composition.item
            log.error("%s, seed %d: cannot write: %s", item.layout.name, item.seed, error)

    def _attempt(self, composition: Composition) -> tuple[Composition, Mapping[str, str]]:
        """Write the files; a picture that cannot be one has failed, and leaves none."""
        try:
            return composition, self._write_files(composition)
        except OSError:
            raise
        except Exception as error:
            clear([composition.item], self.folder)
            return failure(composition.item, error), {}

    def _write_files(self, composition: Composition) -> dict[str, str]:
        image = self._write_result(composition)
        if self.figures and composition.steps:
            self._write_figures(composition)
        return {"image": str(image.relative_to(self.folder)), "sha256": sha256_of(image)}

    def _write_entry(self, composition: Composition, rank: int, written: Mapping[str, str]) -> None:
        entry: dict[str, Any] = {
            "inputs": self.recipe.inputs(composition.item),
            "losses": [step.losses["total"] for step in composition.steps],
            "seconds": round(composition.seconds, 3),
            "passes": composition.passes,
            "guidance_passes": composition.guidance_passes,
            "peak_memory": composition.peak_memory,
            "together": composition.together,
            "rank": rank,
            "status": FAILED if composition.error else DONE,
            "error": composition.error,
            **written,
        }
        if composition.further:
            entry["further"] = composition.further
        if composition.trace:
            entry["trace"] = composition.trace
        write_entry(composition.item.path(self.folder, ".json"), entry)

    def _write_result(self, composition: Composition) -> Path:
        item = composition.item
        if composition.pixels is None:
            path = item.path(self.folder, ".safetensors")
            assert composition.latents is not None
            with whole_file(path) as temporary:
                save_file({"latents": composition.latents}, temporary)
            return path
        path = item.path(self.folder, ".png")
        told = None
        if self.provenance:
            told = text_chunks(self.recipe.inputs(item), composition.further)
        with whole_file(path) as temporary:
            image_of(composition.pixels).save(temporary, pnginfo=told)
        return path

    def _write_figures(self, composition: Composition) -> None:
        item = composition.item
        picture = None if composition.pixels is None else image_of(composition.pixels)
        save_figure(
            attention_figure(picture, item.layout, composition.steps),
            item.path(self.folder, "_attention.png"),
        )
        title = f"{item.layout.name}, seed {item.seed}"
        save_figure(loss_figure(composition.steps, title), item.path(self.folder, "_losses.png"))
