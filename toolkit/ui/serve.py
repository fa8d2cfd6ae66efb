"""`toolkit ui`: from a checked config to a server that runs until Ctrl-C."""

import ipaddress
import logging
import secrets
import socket
from collections.abc import Sequence

from toolkit.backbones.source import check_local
from toolkit.config import UiConfig
from toolkit.errors import InputError

log = logging.getLogger(__name__)


def serve(config: UiConfig, model_arguments: Sequence[str]) -> None:
    """Serve the page until the process is told to end.

    model_arguments: those that were typed to choose the base.
    Raises InputError when the port is taken, the base is none, or the extra is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise InputError(
            "the page needs more packages: pip install 'lora-composer-toolkit[ui]'"
        ) from error
    from toolkit.ui.app import make_app
    from toolkit.ui.studio import Studio

    check_local(config.model.path)
    token = None if _is_loopback(config.host) else secrets.token_urlsafe(24)
    listening = _socket(config)
    port = listening.getsockname()[1]
    app = make_app(Studio(config, model_arguments), token)
    shown = f"[{config.host}]" if ":" in config.host else config.host
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


def _socket(config: UiConfig) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except OSError as error:
        raise InputError(
            f"host={config.host} port={config.port}: {error.strerror}; port=0 takes a free one"
        ) from error
    return listening
