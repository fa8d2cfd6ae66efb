"""The API of what there is: the base, concepts, methods, pictures, and their files."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException

from toolkit.names import check_name
from toolkit.ui.files import file_of
from toolkit.ui.shelf import picture_of, shelved
from toolkit.ui.studio import Studio


def add_library(app: FastAPI, studio: Studio) -> None:
    """Have the application answer for what there is."""

    output_dir, model = studio.config.output_dir, studio.config.model

    @app.get("/api/base")
    def base() -> dict[str, Any]:
        """The loaded base: its name, its usual canvas and steps, and what sizes it takes."""
        return studio.base_values

    @app.get("/api/concepts")
    def concepts() -> list[dict[str, Any]]:
        """Every trained and imported concept; fits: whether the loaded base can use it."""
        found = shelved(studio.config.concepts_folder, model.name, studio.architecture)
        return [
            asdict(one) | {"picture": f"/api/concepts/{one.name}/picture?model={one.model}"}
            for one in found
        ]

    @app.get("/api/concepts/{name}/picture", response_class=Response)
    def picture(name: str, model: str = model.name) -> Response:
        """A small picture of a concept: of its images, or a sample."""
        check_name("concept", name)
        known = Path(model).name == model and model != ".."
        found = picture_of(output_dir, model, name) if known else None
        if found is None:
            raise HTTPException(404, f"there is no picture of {name}")
        return Response(found, media_type="image/png")

    @app.get("/api/methods")
    def methods() -> list[dict[str, Any]]:
        """The methods, with their switches and the values that those have on the loaded base."""
        return [asdict(one) for one in studio.methods.result()]

    @app.get("/api/results")
    def results(
        layout: str = "",
        concept: str = "",
        method: str = "",
        skip: Annotated[int, Query(ge=0)] = 0,
        most: Annotated[int, Query(ge=1, le=500)] = 60,
    ) -> dict[str, Any]:
        """Pictures that were made, the newest first."""
        return studio.results.listed(layout, concept, method, skip, most)

    @app.get("/files/{path:path}", response_class=FileResponse)
    def files(path: str) -> FileResponse:
        """A picture or text file of the output folder."""
        found = file_of(output_dir, path)
        if found is None:
            raise HTTPException(404, "there is no such file")
        return FileResponse(found, headers={"cache-control": "no-cache"})
