"""The HTTP API, and the page at `/`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from toolkit.config import read_import, read_train
from toolkit.errors import InputError, RunError, one_line
from toolkit.layout.mapping import layout_to_mapping
from toolkit.names import check_name
from toolkit.ui import reading, uploads
from toolkit.ui.asking import Composition, Drawing, Training
from toolkit.ui.files import file_of
from toolkit.ui.guard import Guard
from toolkit.ui.jobs import Job
from toolkit.ui.messages import job_message, job_values
from toolkit.ui.orders import Kind, Order, layout_yaml, save_layout
from toolkit.ui.reference import reference
from toolkit.ui.shelf import picture_of, shelved
from toolkit.ui.studio import Studio

PAGE = Path(__file__).parent / "page"
_PATIENCE = 0.7
"""Seconds to wait for the worker's word on a layout: it may be loading the base."""


def make_app(studio: Studio, token: str | None = None) -> Guard:
    """The application, with its guard in front. token: what a request must bring, if anything."""
    app = FastAPI(
        title="LoRA-Composer toolkit",
        description="Draw layouts, have them made, look at what was made.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(studio),
    )
    _add_errors(app)
    _add_jobs(app, studio)
    _add_layouts(app, studio)
    _add_library(app, studio)
    _add_sending(app, studio)
    _add_pages(app)
    return Guard(app, studio.config.host, token)


def _lifespan(studio: Studio) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio.open(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(studio.close)

    return lifespan


def _add_jobs(app: FastAPI, studio: Studio) -> None:
    @app.post("/api/compose", status_code=202)
    def compose(asked: Composition) -> dict[str, Any]:
        """Put a layout in the queue; the answer is its job."""
        order = asked.order(studio.model_arguments, studio.config.output_dir)
        order.check_files()
        save_layout(studio.config.output_dir, order.drawn)
        return job_values(studio.jobs.submit(order))

    @app.get("/api/jobs")
    def jobs() -> list[dict[str, Any]]:
        """All jobs that are remembered, the oldest first."""
        return [job_values(job) for job in studio.jobs.listed()]

    @app.get("/api/jobs/{job}")
    def one_job(job: str) -> dict[str, Any]:
        """One job."""
        return job_values(_found(studio, job))

    @app.delete("/api/jobs/{job}")
    def stop(job: str) -> dict[str, Any]:
        """Stop a job: at once if it waits, at its next step if it runs."""
        return job_values(studio.stop(_found(studio, job)))

    @app.post("/api/jobs/{job}/again", status_code=202)
    def again(job: str) -> dict[str, Any]:
        """Queue a job again; pictures that are there already stay."""
        found = _found(studio, job)
        if not found.state.is_over:
            raise InputError(f"job {job} is {found.state} already")
        return job_values(studio.jobs.submit(found.order))

    @app.get("/api/jobs/{job}/events", response_class=StreamingResponse)
    async def job_events(job: str) -> StreamingResponse:
        """Server-sent events of a job until it is over: job, begun, step, picture, training."""
        reader = studio.broadcast.subscribe()
        first = [job_message(_found(studio, job))]
        first += [one for one in studio.recent.listed() if one["job"] == job]
        return _streamed(studio.broadcast.stream(reader, first, job))

    @app.get("/api/events", response_class=StreamingResponse)
    async def events() -> StreamingResponse:
        """Server-sent events of all jobs, without end."""
        reader = studio.broadcast.subscribe()
        first = [job_message(job) for job in studio.jobs.listed()] + studio.recent.listed()
        return _streamed(studio.broadcast.stream(reader, first))


def _add_layouts(app: FastAPI, studio: Studio) -> None:
    @app.post("/api/layouts/check")
    def check(asked: Drawing) -> dict[str, Any]:
        """What is wrong or odd about a layout, and the same as YAML and as a command.

        problem: why it cannot be made, at `path`. complete: the loaded base was asked as well.
        """
        answer: dict[str, Any] = {"problem": None, "path": "", "remarks": [], "complete": False}
        answer |= {"yaml": "", "command": ""}
        try:
            order = asked.order(studio.model_arguments, studio.config.output_dir)
            answer |= {"yaml": layout_yaml(order.drawn), "command": order.command}
            order.check_files()
        except InputError as error:
            return answer | {"problem": str(error), "path": error.path, "complete": True}
        said = studio.device.ask(order, _PATIENCE)
        if said is None:
            return answer
        return answer | {
            "problem": said.problem,
            "path": said.path,
            "remarks": list(said.remarks),
            "complete": True,
        }

    @app.post("/api/layouts/read")
    async def read(request: Request) -> dict[str, Any]:
        """The layouts of a file that is the body: a PNG of this toolkit, YAML or JSONL."""
        content = await request.body()
        layouts, left_out = await asyncio.to_thread(reading.layouts_in, content)
        return {"layouts": [layout_to_mapping(one) for one in layouts], "left_out": left_out}


def _add_library(app: FastAPI, studio: Studio) -> None:
    output_dir, model = studio.config.output_dir, studio.config.model

    @app.get("/api/base")
    def base() -> dict[str, Any]:
        """The loaded base: its name, its usual canvas and steps, and what sizes it takes."""
        return studio.base_values

    @app.get("/api/concepts")
    def concepts() -> list[dict[str, Any]]:
        """Every trained and imported concept; fits: whether the loaded base can use it."""
        found = shelved(output_dir, model.name, studio.architecture)
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


def _add_sending(app: FastAPI, studio: Studio) -> None:
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
            typed = [*studio.model_arguments, f"concept={name}", f"output_dir={output_dir}"]
            typed += [f"class_word={class_word}"] if class_word else []
            typed += [f"trigger={trigger}"] if trigger else []
            typed += ["overwrite=true"] if overwrite else []
            order = Order(Kind.IMPORT, f"import {name}", (str(path), *typed))
            config = read_import(order.arguments)
            _check_free(config.output_dir / "concepts" / config.model.name, name, overwrite)
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
        order = asked.order(studio.model_arguments, output_dir)
        (config,) = read_train(order.arguments)
        studio.check_training(config)
        return job_values(studio.jobs.submit(order))


def _add_pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(_reference(app))

    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")


@lru_cache(maxsize=1)
def _reference(app: FastAPI) -> str:
    return reference(app.openapi())


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(InputError)
    async def wrong(request: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error), "path": error.path}, 422)

    @app.exception_handler(RequestValidationError)
    async def no_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first, *_ = error.errors()
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse({"error": f"{where}: {first['msg']}".lstrip(": "), "path": where}, 422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "it ended before its end, or was too large"}, 413)

    @app.exception_handler(RunError)
    @app.exception_handler(OSError)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": one_line(error)}, 507)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        said = (
            f"a fault of the toolkit, please report it: {type(error).__name__}: {one_line(error)}"
        )
        return JSONResponse({"error": said}, 500)


def _found(studio: Studio, job: str) -> Job:
    found = studio.jobs.find(job)
    if found is None:
        raise HTTPException(404, "there is no such job")
    return found


def _streamed(events: AsyncIterator[str]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _check_free(folder: Path, name: str, overwrite: bool) -> None:
    if (folder / f"{name}.safetensors").exists() and not overwrite:
        raise InputError(f"a concept {name} is there already: take another name")
