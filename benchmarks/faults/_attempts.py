"""Attempts of hostile clients: what one sends, and the statuses that are right; and the requests they are made of."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile

RATE = 32_000
LOST = 0
"""Stands for a connection that the server closes without an answer."""


@dataclass
class Attempt:
    """What one client sends.

    Attributes:
        parts: Bytes to send, and pauses in seconds between them.
        statuses: Statuses that are right.
        closes: Whether the client closes the connection without reading the answer.
        waits: Whether the client waits for an answer to the first part, as the handshake of a WebSocket requires.
        forbidden: Text that must not be in the answer.
    """

    parts: Sequence[bytes | float]
    statuses: frozenset[int] = field(default_factory=frozenset)
    closes: bool = False
    waits: bool = False
    forbidden: bytes = b"root:"


@dataclass(frozen=True)
class Kind:
    """A kind of hostile requests: its name, the number of tries, and a function that makes one."""

    name: str
    tries: int
    make: Callable[[random.Random], Attempt]
    concurrency: int = 8


def build(path: str, body: bytes = b"", method: str = "POST", length: object = None, **headers: str) -> bytes:
    """Return the bytes of a request; `length` replaces the right length, and `""` leaves it out."""
    length = len(body) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [] if length == "" else [f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def build_chunked(path: str, chunks: Sequence[bytes], end: bytes = b"0\r\n\r\n") -> bytes:
    """Return the bytes of a request with a body in chunks."""
    head = build(path, length="", Transfer_Encoding="chunked")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def encode(format: str = "WAV", seconds: float = 1.0, rate: int = RATE, level: float = 0.1, **options: Any) -> bytes:
    """Return noise as the content of an audio file; a level of 0 is silence."""
    file, count = io.BytesIO(), round(rate * seconds)
    with soundfile.SoundFile(file, "w", rate, 1, format=format, **options) as sound:
        for start in range(0, count, 1 << 20):
            block = np.zeros(min(1 << 20, count - start), np.float32)
            if level:
                block = level * np.random.default_rng(start).standard_normal(len(block)).astype(np.float32)
            sound.write(block)
    return file.getvalue()


def allow(*statuses: int) -> frozenset[int]:
    """Return statuses that are right."""
    return frozenset(statuses)


def iterate_attempts(kind: Kind, tries: int) -> Iterator[Attempt]:
    """Yield attempts of a kind, the same each time."""
    r = random.Random(kind.name)
    for _ in range(tries):
        yield kind.make(r)
