"""`toolkit ui` and `toolkit rate`: from a checked config to a server that runs until Ctrl-C."""

import ipaddress
import secrets
import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from toolkit.backbones.source import check_local
from toolkit.config import RateConfig, UiConfig
from toolkit.errors import InputError
from toolkit.ui.guard import Guard


def serve(config: UiConfig, model_arguments: Sequence[str]) -> None:
    """Serve the page to draw on until the process is told to end.

    model_arguments: those that were typed to choose the base.
    Raises InputError when the port is taken, the base is none, or the extra is not installed.
    """
    _check_installed()
    from toolkit.ui.app import make_app
    from toolkit.ui.studio import Studio

    check_local(config.model.path)
    _run(lambda token: make_app(Studio(config, model_arguments), token), config.host, config.port)


def serve_rating(config: RateConfig) -> None:
    """Serve the page to rate on until the process is told to end.

    Raises InputError as above, and when there is nothing to rate.
    """
    _check_installed()
    from toolkit.ui.rating_app import make_rating_app

    _run(lambda token: make_rating_app(config, token), config.host, config.port)


def _check_installed() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the page needs {' and '.join(missing)}: pip install 'lora-composer-toolkit[ui]'"
        )


def _run(app_of: Callable[[str | None], Guard], host: str, port: int) -> None:
    """Serve what `app_of` makes of a token; None where only this machine can ask."""
    import uvicorn

    token = None if _is_loopback(host) else secrets.token_urlsafe(24)
    listening = _socket(host, port)
    port = listening.getsockname()[1]
    app = app_of(token)
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}/{f'?token={token}' if token else ''}", flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            timeout_graceful_shutdown=2,
            server_header=False,
            lifespan="on",
        )
    )
    try:
        server.run([listening])
    finally:
        listening.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _socket(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except OSError as error:
        raise InputError(
            f"host={host} port={port}: {error.strerror}; port=0 takes a free one"
        ) from error
    return listening
