"""Load on an HTTP server: a number of clients that send one request after the other, over connections kept open."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Load:
    """What a load on a server measured.

    Attributes:
        seconds: Duration.
        latencies: Time of each answer with status 200, seconds.
        processor_seconds: Processor time of the server, seconds.
        failures: Number of other answers by status, and of lost connections as `"lost"`.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    processor_seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Successful requests per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency, in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1e3 if self.latencies else float("nan")


def build_request(path: str, field_name: str, recording: bytes) -> bytes:
    """Return the bytes of a POST request with a form of one file."""
    boundary = b"-----------------------------41184676334"
    disposition = f'Content-Disposition: form-data; name="{field_name}"; filename="clip.wav"'
    part = f"{disposition}\r\nContent-Type: audio/wav\r\n\r\n".encode()
    body = b"--%b\r\n%b%b\r\n--%b--\r\n" % (boundary, part, recording, boundary)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return b"%bContent-Type: multipart/form-data; boundary=%b\r\n\r\n%b" % (head.encode(), boundary, body)


def apply_load(port: int, request: bytes, clients: int, seconds: float, max_requests: int | None = None) -> Load:
    """Send one request again and again, until the time is over or all requests are sent.

    Args:
        port: Port of the server on 127.0.0.1.
        request: Bytes of the request.
        clients: Number of clients.
        seconds: Duration; requests in flight at the end are awaited.
        max_requests: Largest number of requests; None for no limit.
    """
    return asyncio.run(_apply_load(port, request, clients, seconds, max_requests))


async def _apply_load(port: int, request: bytes, clients: int, seconds: float, max_requests: int | None) -> Load:
    load, start = Load(), time.perf_counter()
    loop, num_sent = asyncio.get_running_loop(), 0

    async def run_client() -> None:
        nonlocal num_sent
        connection = None
        while time.perf_counter() < start + seconds and (max_requests is None or num_sent < max_requests):
            num_sent += 1
            began = time.perf_counter()
            try:
                if connection is None:
                    connection = socket.socket()
                    connection.setblocking(False)
                    await loop.sock_connect(connection, ("127.0.0.1", port))
                await loop.sock_sendall(connection, request)  # without a copy, which a stream would make
                status = await _receive_answer(connection)
            except (OSError, EOFError, ValueError):
                load.failures["lost"] += 1
                if connection is not None:
                    connection.close()
                connection = None
                await asyncio.sleep(0.05)
                continue
            if status == 200:
                load.latencies.append(time.perf_counter() - began)
            else:
                load.failures[str(status)] += 1
        if connection is not None:
            connection.close()

    await asyncio.gather(*(run_client() for _ in range(clients)))
    load.seconds = time.perf_counter() - start
    return load


async def _receive_answer(connection: socket.socket) -> int:
    """Receive an answer with a length, and return its status."""
    loop, answer = asyncio.get_running_loop(), b""
    size = None
    while size is None or len(answer) < size:
        part = await loop.sock_recv(connection, 1 << 16)
        if not part:
            raise EOFError
        answer += part
        head, end, _ = answer.partition(b"\r\n\r\n")
        if size is None and end:
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            size = len(head) + len(end) + int(length)
    return int(answer.split(b" ", 2)[1])
