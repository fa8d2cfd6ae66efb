"""The API of what is sent: LoRAs to import, images to train on."""

import asyncio
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from toolkit.config import read_import, read_train
from toolkit.errors import InputError
from toolkit.names import check_name
from toolkit.ui import uploads
from toolkit.ui.asking import Training
from toolkit.ui.messages import job_values
from toolkit.ui.orders import Kind, Order, folder_arguments
from toolkit.ui.studio import Studio


def add_sending(app: FastAPI, studio: Studio) -> None:
    """Have the application take what is sent."""

    output_dir = studio.config.output_dir

    @app.post("/api/concepts", status_code=202)
    async def import_concept(
        request: Request,
        name: str,
        class_word: str = "",
        trigger: str = "",
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Import the LoRA that is the body; the answer is a job."""
        check_name("concept", name)
        path = uploads.temporary(output_dir / "ui" / "uploads", ".weights")
        await uploads.received(request.stream(), path)
        try:
            uploads.check_weights(path)
            typed = [*studio.model_arguments, f"concept={name}", *folder_arguments(studio.config)]
            typed += [f"class_word={class_word}"] if class_word else []
            typed += [f"trigger={trigger}"] if trigger else []
            typed += ["overwrite=true"] if overwrite else []
            order = Order(Kind.IMPORT, f"import {name}", (str(path), *typed))
            config = read_import(order.arguments)
            _check_free(config.concepts_folder / config.model.name, name, overwrite)
            return job_values(studio.jobs.submit(order))
        except InputError as error:
            path.unlink(missing_ok=True)
            raise InputError(str(error).replace(str(path), "the file")) from error

    @app.put("/api/datasets/{name}/{file:path}")
    async def send_image(request: Request, name: str, file: str) -> dict[str, Any]:
        """Keep an image, or a caption beside it, for training the concept `name`."""
        folder = uploads.training_folder(output_dir, name)
        path = uploads.image_path(folder, file)
        waiting = uploads.temporary(output_dir / "ui" / "uploads", path.suffix)
        await uploads.received(request.stream(), waiting)
        try:
            await asyncio.to_thread(uploads.check_image, waiting, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting.replace(path)
        finally:
            waiting.unlink(missing_ok=True)
        return {"file": file}

    @app.post("/api/train", status_code=202)
    def train(asked: Training) -> dict[str, Any]:
        """Train a concept on the images that were sent for it; the answer is a job."""
        order = asked.order(studio.model_arguments, studio.config)
        (config,) = read_train(order.arguments)
        studio.check_training(config)
        return job_values(studio.jobs.submit(order))


def _check_free(folder: Path, name: str, overwrite: bool) -> None:
    if (folder / f"{name}.safetensors").exists() and not overwrite:
        raise InputError(f"a concept {name} is there already: take another name")
