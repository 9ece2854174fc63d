"""The configuration of `kerastag serve`."""

from __future__ import annotations

import dataclasses
import math
import os
import re

from kerastag._provenance import count_cores

__all__ = ["ModelSpec", "ServeConfig"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SPEC = re.compile(r"(?:(?P<name>[^=:]+)(?::(?P<version>\d+)(?P<labels>(?:,[^=,]+)*))?=)?(?P<path>.+)", re.DOTALL)
# Smallest and largest value of each number; None is allowed where it is the default.
_LIMITS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "workers": (1, 256),
    "max_body_mb": (0.001, 100_000),
    "max_memory_mb": (0.001, 1e6),
    "max_duration_seconds": (0.1, 86_400.0),
    "max_running": (1, 1_000),
    "max_waiting": (0, 100_000),
    "max_streams": (0, 1_000),
    "max_connections": (1, 100_000),
    "request_timeout_seconds": (0.1, 86_400.0),
    "upload_timeout_seconds": (0.1, 86_400.0),
    "header_timeout_seconds": (0.1, 3_600.0),
    "stream_idle_seconds": (0.1, 86_400.0),
    "drain_seconds": (0.0, 86_400.0),
    "decoder_cpu_seconds": (1, 86_400),
    "decoder_memory_mb": (256, 1_000_000),
}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model to serve.

    Args:
        name: Name in addresses: letters, digits, `_`, `.` and `-`, at most 100.
        path: Path of a model file or of a SavedModel folder, or the name of a model, as in `Tagger.load`.
        version: Number of the version, at least 1; None takes that of a versioned SavedModel folder, or 1.
        labels: Other names of the version, such as `stable`.
    """

    name: str
    path: str
    version: int | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.labels):
            if not _NAME.fullmatch(name):
                allowed = "of letters, digits, `_`, `.` and `-`, at most 100"
                raise ValueError(f"the name of a model or a label must be {allowed}; received: {name!r}")
        if self.version is not None and not 1 <= self.version < 2**31:
            raise ValueError(f"the version of a model must be at least 1; received: {self.version}")

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Parse `PATH`, `NAME=PATH` or `NAME:VERSION,LABEL,...=PATH`.

        >>> ModelSpec.parse("birds:2,stable=models/new.tflite")
        ModelSpec(name='birds', path='models/new.tflite', version=2, labels=('stable',))
        >>> ModelSpec.parse("mn04_as").name
        'mn04_as'
        """
        match = _SPEC.fullmatch(text)
        if match is None:
            raise ValueError(f"`model` must be a path, a name, or NAME=PATH; received: {text!r}")
        path, name = match["path"], match["name"]
        if name is None:
            stem = os.path.basename(path.rstrip("/")).removesuffix(".tflite").removesuffix(".keras")  # noqa: PTH119
            name = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem) or "model"
        labels = tuple(filter(None, (match["labels"] or "").split(",")))
        return cls(name, path, None if match["version"] is None else int(match["version"]), labels)


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Configuration of a server; each field is a flag of `kerastag serve`.

    Args:
        models: Models to serve. The first one is the default.
        engine: What runs a named model, as in `Tagger.load`.
        host: Address to listen on. Addresses other than loopback need a token, or `no_token`.
        port: Port to listen on; 0 takes a free one.
        token_file: Path of a file whose content is the token that clients must send; None needs no token.
        no_token: Whether to listen on addresses other than loopback without a token.
        allowed_hosts: Names by which clients may address the server, besides IP addresses, localhost and `host`.
        allowed_origins: Origins of pages on other sites that may use the server, such as `https://example.com`.
        workers: Number of interpreters per model, each with one thread; None is one per processor core.
        max_body_mb: Largest body of a request, megabytes.
        max_memory_mb: Largest size of all bodies together that are in memory at the same time, megabytes.
        max_duration_seconds: Longest recording, seconds.
        max_running: Number of requests processed at the same time; None is twice the number of cores.
        max_waiting: Number of requests that may wait for their turn.
        max_streams: Number of streams at the same time.
        max_connections: Number of connections at the same time.
        request_timeout_seconds: Longest time from the end of the upload to the answer, seconds.
        upload_timeout_seconds: Longest time for the body of a request, seconds.
        header_timeout_seconds: Longest time for the headers of a request, or the first message of a stream, seconds.
        stream_idle_seconds: Longest time without a message from the client of a stream, seconds.
        drain_seconds: Longest time for running requests to end after SIGTERM, seconds.
        decoder_cpu_seconds: Processor time for decoding one recording, seconds.
        decoder_memory_mb: Address space of a process that decodes recordings, megabytes.

    >>> ServeConfig((ModelSpec.parse("esc10"),), port=0).max_streams
    8
    """

    models: tuple[ModelSpec, ...]
    engine: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: str | None = None
    no_token: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    workers: int | None = None
    max_body_mb: float = 1_000.0
    max_memory_mb: float = 2_000.0
    max_duration_seconds: float = 4 * 3_600.0
    max_running: int | None = None
    max_waiting: int = 64
    max_streams: int = 8
    max_connections: int = 512
    request_timeout_seconds: float = 600.0
    upload_timeout_seconds: float = 300.0
    header_timeout_seconds: float = 10.0
    stream_idle_seconds: float = 30.0
    drain_seconds: float = 30.0
    decoder_cpu_seconds: int = 300
    decoder_memory_mb: int = 2_048

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("`models` must have at least one model; received: none")
        versions = [(spec.name, spec.version) for spec in self.models]
        for name, version in versions:
            if versions.count((name, version)) > 1:
                raise ValueError(f"the models must differ in name or version; received twice: {name}")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= high and math.isfinite(value)):
                raise ValueError(f"`{name}` must be in [{low:.10g}, {high:.10g}]; received: {value}")
        for origin in self.allowed_origins:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ValueError(f"`allowed_origins` must be like https://example.com; received: {origin!r}")

    @property
    def num_workers(self) -> int:
        """Number of interpreters per model."""
        return count_cores() if self.workers is None else self.workers

    @property
    def num_running(self) -> int:
        """Number of requests processed at the same time."""
        return 2 * count_cores() if self.max_running is None else self.max_running
