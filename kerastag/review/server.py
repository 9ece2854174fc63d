"""Running the server of a review: the same protections as those of `kerastag serve`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from kerastag.review.app import create_app
from kerastag.review.config import ReviewConfig
from kerastag.review.session import ReviewSession, open_review
from kerastag.serving.access import AccessPolicy
from kerastag.serving.config import ModelSpec, ServeConfig
from kerastag.serving.gateway import Gateway
from kerastag.serving.listening import create_server, format_address, listen
from kerastag.serving.metrics import ServerMetrics

__all__ = ["run_review"]

_MAX_BODY_MB = 0.1


def run_review(config: ReviewConfig, log: Callable[[str], None], debug: bool = False) -> None:
    """Serve the review of a run until `SIGTERM` or `SIGINT`.

    Args:
        config: Configuration of the review.
        log: Function that takes one line of text.
        debug: Whether errors of the server itself are written with their tracebacks.

    Raises:
        FileNotFoundError: There is no such run or recording.
        ValueError: An argument is out of range, or the run cannot be reviewed.
        OSError: The address is in use, or a file cannot be read.
    """
    server_config = ServeConfig(
        models=(ModelSpec("review", config.run),),
        host=config.host,
        port=config.port,
        token_file=config.token_file,
        allowed_hosts=config.allowed_hosts,
        max_body_mb=_MAX_BODY_MB,
    )
    policy = AccessPolicy(server_config)
    with contextlib.closing(open_review(config, log)) as session:
        asyncio.run(_serve(session, server_config, policy, log, debug))


async def _serve(
    session: ReviewSession, config: ServeConfig, policy: AccessPolicy, log: Callable[[str], None], debug: bool
) -> None:
    gateway = Gateway(create_app(session), config, policy, ServerMetrics({}), lambda line: None, debug)
    with listen(config.host, config.port) as listener:
        server = create_server(gateway, config, debug)

        def stop() -> None:
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        log(f"review {session.run.folder.path} at {format_address(listener)}")
        await server.serve(sockets=[listener])
