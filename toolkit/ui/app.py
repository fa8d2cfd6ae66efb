"""The page at `/`, and the HTTP API that it uses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from toolkit.ui.guard import Guard
from toolkit.ui.job_routes import add_jobs
from toolkit.ui.layout_routes import add_layouts
from toolkit.ui.library_routes import add_library
from toolkit.ui.reference import reference
from toolkit.ui.sending_routes import add_sending
from toolkit.ui.sentences import add_errors
from toolkit.ui.studio import Studio

PAGE = Path(__file__).parent / "page"


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
    add_errors(app)
    add_jobs(app, studio)
    add_layouts(app, studio)
    add_library(app, studio)
    add_sending(app, studio)
    _add_pages(app)
    return Guard(app, studio.config.host, token)


def _lifespan(studio: Studio) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio.open(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(studio.close)

    return lifespan


def _add_pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(_reference(app))

    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")


@lru_cache(maxsize=1)
def _reference(app: FastAPI) -> str:
    return reference(app.openapi())
