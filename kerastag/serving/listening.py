"""The socket of a server, and how uvicorn serves it."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from kerastag.serving.config import ServeConfig
from kerastag.serving.connections import LimitedProtocol

__all__ = ["create_server", "format_address", "listen"]

_MAX_WEBSOCKET_BYTES = 4 << 20  # beyond the limit for a message, which gets a proper error
_KEEP_ALIVE_SECONDS = 65  # longer than load balancers keep idle connections


def create_server(app: Any, config: ServeConfig, debug: bool = False) -> uvicorn.Server:
    """Create the server of an application, with the limits of a configuration; signals are left to the caller.

    Args:
        app: ASGI application.
        config: Configuration of the server.
        debug: Whether uvicorn's errors are written with their tracebacks.
    """
    if not debug:
        logging.getLogger("uvicorn.error").addFilter(_remove_traceback)
    protocol = type(
        "ServerProtocol",
        (LimitedProtocol,),
        {"max_connections": config.max_connections, "header_seconds": config.header_timeout_seconds},
    )
    uvicorn_config = uvicorn.Config(
        app,
        http=protocol,
        ws="websockets-sansio",
        ws_max_size=_MAX_WEBSOCKET_BYTES,
        ws_per_message_deflate=False,  # which a small message could expand to a large one
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,  # after the drain
        backlog=config.max_connections,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
    )
    server = uvicorn.Server(uvicorn_config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]  # as uvicorn has no option
    return server


def _remove_traceback(record: logging.LogRecord) -> bool:
    """Keep one line of what a client has caused, such as a text that is not UTF-8."""
    record.exc_info = None
    return True


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open the socket of a server for a block; an OSError names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    # Without it, an answer of two packets takes 40 ms more. asyncio sets it only where a socket names its protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


def format_address(listener: socket.socket) -> str:
    """Return the address of a socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
