"""What happens, to every page that looks: from any thread to the streams of the server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

_ROOM = 256
"""Messages that a slow reader may be behind; its stream is then ended, and begins anew."""
_QUIET = 15.0
"""Seconds after which a stream says that it is still there."""


class Broadcast:
    """Streams of server-sent events."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """loop: the server's."""
        self._loop = loop

    def send(self, message: dict[str, Any]) -> None:
        """Give a message to every reader; from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._put, message)

    def close(self) -> None:
        """End every stream."""
        self.closed = True
        for reader in self._readers:
            _end(reader)

    def subscribe(self) -> "asyncio.Queue[dict[str, Any] | None]":
        """What is sent from now on; None ends it."""
        reader: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_ROOM)
        self._readers.add(reader)
        return reader

    async def stream(
        self,
        reader: "asyncio.Queue[dict[str, Any] | None]",
        first: list[dict[str, Any]],
        job: str | None = None,
    ) -> AsyncIterator[str]:
        """Server-sent events: `first`, then what the reader is given.

        job: only what is about this job, until it is over.
        """
        try:
            for message in first:
                yield _text(message)
                if job is not None and _is_over(message):
                    return
            while not self.closed:
                try:
                    waiting = await asyncio.wait_for(reader.get(), _QUIET)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if waiting is None:
                    return
                if job is None or waiting.get("job") == job:
                    yield _text(waiting)
                    if job is not None and _is_over(waiting):
                        return
        finally:
            self._readers.discard(reader)

    def _put(self, message: dict[str, Any]) -> None:
        for reader in list(self._readers):
            if reader.full():
                self._readers.discard(reader)
                _end(reader)
            else:
                reader.put_nowait(message)


def _end(reader: "asyncio.Queue[dict[str, Any] | None]") -> None:
    if reader.full():
        reader.get_nowait()
    reader.put_nowait(None)


def _is_over(message: dict[str, Any]) -> bool:
    return message.get("event") == "job" and bool(message["value"]["over"])


def _text(message: dict[str, Any]) -> str:
    return f"event: {message['event']}\ndata: {json.dumps(message)}\n\n"
