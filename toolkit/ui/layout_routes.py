"""The API of layouts: checked while they are drawn, and read from files."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request

from toolkit.errors import InputError
from toolkit.layout.mapping import layout_to_mapping
from toolkit.ui import reading
from toolkit.ui.asking import Drawing
from toolkit.ui.orders import layout_yaml
from toolkit.ui.studio import Studio

_PATIENCE = 0.7
"""Seconds to wait for the worker's word on a layout: it may be loading the base."""


def add_layouts(app: FastAPI, studio: Studio) -> None:
    """Have the application answer for layouts."""

    @app.post("/api/layouts/check")
    def check(asked: Drawing) -> dict[str, Any]:
        """What is wrong or odd about a layout, and the same as YAML and as a command.

        problem: why it cannot be made, at `path`. complete: the loaded base was asked as well.
        """
        answer: dict[str, Any] = {"problem": None, "path": "", "remarks": [], "complete": False}
        answer |= {"yaml": "", "command": ""}
        try:
            order = asked.order(studio.model_arguments, studio.config)
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
