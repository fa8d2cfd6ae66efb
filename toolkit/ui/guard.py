"""Who may ask: this machine's own pages, and whoever has the token; and how much may be sent."""

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "toolkit_token"
_MEGABYTE = 1024 * 1024
_LARGEST = {"/api/layouts/read": 64, "/api/concepts": 4096, "/api/datasets": 64}
"""Megabytes that may be sent, by how a path begins; elsewhere one."""
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; "
        b"base-uri 'none'; form-action 'self'",
    ),
)


@dataclass(frozen=True)
class Guard:
    """Stands before every request; what it refuses never reaches the application.

    host: where the server listens. token: what a request must bring; None where only this machine
    can ask.
    A page of another site may send requests here, with this server's own name (DNS rebinding) or
    without. So the name that was asked for must be one of ours, and a page that asks must be ours.
    """

    app: App
    host: str
    token: str | None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        limit = _limit(scope["path"])
        if not _is_below(headers.get("content-length", "0"), limit):
            await _answer(send, 413, f"more than {limit // _MEGABYTE} MB: too much to be sent here")
            return
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if given and self.token is not None and scope["path"] == "/":
            await _welcome(send, given[0])
            return
        await self.app(scope, _counted(receive, limit), _with_headers(send))

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        asked = headers.get("host", "")
        if not self._is_ours(asked):
            return 421, f"this server is not {asked!r}: open it by the address that it printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != asked:
            return 403, "a page of another site asked for this"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (
            scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        ):
            return 403, "a page of another site asked for this"
        if self.token is not None and not self._has_token(scope, headers):
            return 401, (
                "a token is needed: open the address that the server printed, or send it as "
                "Authorization: Bearer TOKEN"
            )
        return None

    def _is_ours(self, asked: str) -> bool:
        try:
            name = urlsplit(f"//{asked}").hostname or ""
        except ValueError:
            return False
        # Listening everywhere, it is called by any of the machine's names; then the token guards.
        everywhere = self.host in ("0.0.0.0", "::") and self.token is not None
        return bool(name) and (everywhere or name in (*LOOPBACK, self.host.lower()))

    def _has_token(self, scope: Message, headers: dict[str, str]) -> bool:
        assert self.token is not None
        given = [headers.get("authorization", "").removeprefix("Bearer ")]
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        given += [cookie.value] if cookie else []
        if scope["path"] == "/":
            given += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(
            secrets.compare_digest(one.encode(), self.token.encode()) for one in given if one
        )


def _limit(path: str) -> int:
    return next((size for start, size in _LARGEST.items() if path.startswith(start)), 1) * _MEGABYTE


def _is_below(length: str, limit: int) -> bool:
    return length.isascii() and length.isdigit() and len(length) < 16 and int(length) <= limit


def _counted(receive: Receive, limit: int) -> Receive:
    """Bodies that do not say how long they are end at the limit, as if the sender had gone."""
    left = limit

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return counted


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return with_headers


async def _answer(send: Send, status: int, said: str) -> None:
    body = json.dumps({"error": said}).encode()
    headers = [(b"content-type", b"application/json"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _welcome(send: Send, token: str) -> None:
    """Keep the token in a cookie, and take it out of the address."""
    cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict".encode()
    headers = [(b"location", b"/"), (b"set-cookie", cookie)]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
