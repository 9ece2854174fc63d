"""Running a server: its socket, its connections, its signals, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn

from kerastag.serving.app import create_app
from kerastag.serving.config import ServeConfig
from kerastag.serving.gateway import Gateway
from kerastag.serving.listening import create_server, format_address, listen
from kerastag.serving.memory import limit_arenas, return_free_memory
from kerastag.serving.server_state import ServerState

__all__ = ["run_server"]

_CHECK_SECONDS = 10.0


def run_server(config: ServeConfig, log: Callable[[str], None], debug: bool = False) -> None:
    """Serve models until `SIGTERM` or `SIGINT`.

    At the first signal, new requests get status 503, streams get their last results, and the function returns as soon
    as all are done; at the second one, it returns at once.

    Args:
        config: Configuration of the server.
        log: Function that takes one line of text, also for each request.
        debug: Whether errors of the server itself are written with their tracebacks.

    Raises:
        ValueError: An argument is out of range, or a file is not a model that can be served.
        OSError: The address is in use, or a file cannot be read.
        ImportError: A package that runs a model is not installed.
    """
    limit_arenas()
    asyncio.run(_Runner(config, log, debug).run())


class _Runner:
    def __init__(self, config: ServeConfig, log: Callable[[str], None], debug: bool) -> None:
        self._config, self._log, self._debug = config, log, debug

    async def run(self) -> None:
        config = self._config
        state = ServerState(config)
        app = _allow_origins(create_app(state), config.allowed_origins)
        gateway = Gateway(app, config, state.policy, state.metrics, self._log, self._debug)
        with listen(config.host, config.port) as listener:
            server = create_server(gateway, config, self._debug)
            background = [
                asyncio.ensure_future(self._load(state, server, listener)),
                asyncio.ensure_future(_keep_house(state)),
            ]
            drain = _Drain(state, gateway, server, config.drain_seconds, self._log)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, drain.request)
            try:
                await server.serve(sockets=[listener])
            finally:
                for task in background[1:]:
                    task.cancel()
                drain.cancel()
                await asyncio.to_thread(state.close)
            await background[0]  # raises the error of a model that cannot be loaded

    async def _load(self, state: ServerState, server: uvicorn.Server, listener: socket.socket) -> None:
        try:
            await asyncio.to_thread(state.models.load, self._config.num_workers, self._config.engine)
        except BaseException:
            server.should_exit = True
            raise
        if server.should_exit:  # A signal came while the models were loaded.
            return
        names = ", ".join(f"{model.name} {model.version}" for model in state.models.list_models())
        gc.collect()
        gc.freeze()  # What the imports have left lives as long as the process.
        self._log(f"serving {names} at {format_address(listener)}")
        await asyncio.to_thread(state.decoders.warm_up)


class _Drain:
    """The end of a server, at the request of a signal."""

    def __init__(
        self, state: ServerState, gateway: Gateway, server: uvicorn.Server, seconds: float, log: Callable[[str], None]
    ) -> None:
        self._state, self._gateway, self._server, self._seconds, self._log = state, gateway, server, seconds, log
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        """End the server as soon as no request is being answered; at once at the second call."""
        if self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            return
        self._task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        self._log(f"ending: {self._gateway.num_requests} requests and streams are still being answered")
        self._gateway.is_draining = True
        self._state.draining.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                while self._gateway.num_requests:
                    await asyncio.sleep(0.02)
        self._server.should_exit = True

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _allow_origins(app: Any, origins: Sequence[str]) -> Any:
    """Let the pages of other sites read the answers."""
    if not origins:
        return app
    from starlette.middleware.cors import CORSMiddleware

    headers = ("Authorization", "Content-Type", "Content-Disposition")
    return CORSMiddleware(app, origins, allow_methods=("GET", "POST"), allow_headers=headers)


async def _keep_house(state: ServerState) -> None:
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        await asyncio.to_thread(state.decoders.end_idle)
        await asyncio.to_thread(return_free_memory)
