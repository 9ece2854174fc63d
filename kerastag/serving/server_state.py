"""What the routes of a server share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from starlette.requests import Request

from kerastag.serving.access import AccessPolicy
from kerastag.serving.config import ServeConfig
from kerastag.serving.decoding import DecoderPool
from kerastag.serving.engine import ModelRegistry
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job, JobRunner
from kerastag.serving.metrics import ServerMetrics
from kerastag.serving.uploads import MemoryBudget, Upload, receive_upload

__all__ = ["ServerState"]

Result = TypeVar("Result")
_MAX_JSON_BYTES = 32 << 20  # about five clips of ten seconds with all their digits
_JSON_FACTOR = 16  # Parsed JSON takes so many times the memory of its text.


class ServerState:
    """The models of a server, and its bounded resources.

    Args:
        config: Configuration of the server.

    Attributes:
        models: Models by name and version.
        decoders: Processes that decode recordings.
        jobs: Threads that do the work of requests.
        budget: Memory for the bodies of requests.
        draining: Event that is set when the server ends.
        num_streams: Number of streams at present.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.policy = AccessPolicy(config)
        self.models = ModelRegistry(config.models)
        self.decoders = DecoderPool(config.max_duration_seconds, config.decoder_cpu_seconds, config.decoder_memory_mb)
        self.jobs = JobRunner(config.num_running, config.max_waiting, config.request_timeout_seconds)
        self.budget = MemoryBudget(round(config.max_memory_mb * 1e6))
        self.draining = asyncio.Event()
        self.num_streams = 0
        self.metrics = ServerMetrics(
            {
                ("kerastag_waiting_requests", "Requests that wait for their turn."): lambda: self.jobs.num_waiting,
                ("kerastag_streams", "Streams at present."): lambda: self.num_streams,
                ("kerastag_upload_bytes", "Bytes of bodies in memory."): lambda: self.budget.used_bytes,
                ("kerastag_decoders_started", "Decoders started so far."): lambda: self.decoders.num_started,
            }
        )

    async def run_upload(self, request: Request, work: Callable[[Upload, Job], Result]) -> Result:
        """Receive the recording of a request, and work on it in a thread; see `JobRunner.run` for errors."""
        self.jobs.check_capacity()
        headers = {name.lower(): value for name, value in request.headers.items()}
        upload = await receive_upload(request.stream(), headers, self.budget)
        return await self.run_job(request, lambda job: work(upload, job), upload.close)

    async def run_job(
        self, request: Request, work: Callable[[Job], Result], finish: Callable[[], object] = lambda: None
    ) -> Result:
        """Work on a request in a thread, as long as its client waits; `finish` is called after the work."""

        async def wait_for_disconnect() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        return await self.jobs.run(work, wait_for_disconnect, finish)

    @contextlib.asynccontextmanager
    async def receive_json(self, request: Request, is_binary: bool = False) -> AsyncIterator[bytes]:
        """Receive the body of a request that is JSON, and hold its memory for the block.

        Args:
            request: Request.
            is_binary: Whether most of the body is tensors after the JSON, which takes far less memory.
        """
        self.jobs.check_capacity()
        taken, parts, factor = 0, [], 1 if is_binary else _JSON_FACTOR
        try:
            async for part in request.stream():
                self.budget.take(factor * len(part))
                taken += factor * len(part)
                if not is_binary and taken > _JSON_FACTOR * _MAX_JSON_BYTES:
                    raise RequestError(
                        413, "too_large", f"JSON must have at most {_MAX_JSON_BYTES >> 20} MiB; it is larger"
                    )
                parts.append(part)
            yield b"".join(parts)
        finally:
            self.budget.give_back(taken)

    def close(self) -> None:
        """End all threads and processes."""
        self.jobs.close()
        self.models.close()
        self.decoders.close()
