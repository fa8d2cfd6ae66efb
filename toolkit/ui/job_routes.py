"""The API of the queue: compose, jobs, and their events."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from toolkit.errors import InputError
from toolkit.ui.asking import Composition
from toolkit.ui.jobs import Job
from toolkit.ui.messages import job_message, job_values
from toolkit.ui.orders import save_layout
from toolkit.ui.studio import Studio


def add_jobs(app: FastAPI, studio: Studio) -> None:
    """Have the application answer for the queue."""

    @app.post("/api/compose", status_code=202)
    def compose(asked: Composition) -> dict[str, Any]:
        """Put a layout in the queue; the answer is its job."""
        order = asked.order(studio.model_arguments, studio.config)
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


def _found(studio: Studio, job: str) -> Job:
    found = studio.jobs.find(job)
    if found is None:
        raise HTTPException(404, "there is no such job")
    return found


def _streamed(events: AsyncIterator[str]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
