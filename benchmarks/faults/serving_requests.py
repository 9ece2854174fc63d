"""A server under ten thousand hostile requests: it must answer each with the right status, live on, and not grow.

After each kind of request, the server must answer, and tag a recording as before. The requests are made in two passes;
memory, open files and processes after the second one must be those after the first one.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from _attempts import LOST, Attempt, Kind, build, encode, iterate_attempts
from _hostile_http import list_kinds
from _hostile_json import list_json_kinds
from _hostile_streams import list_stream_kinds

from kerastag.bundled import BUNDLED_MODEL

_LIMITS = {
    "max-body-mb": 2,
    "max-duration-seconds": 600,
    "max-connections": 100,
    "max-streams": 4,
    "header-timeout-seconds": 2,
    "upload-timeout-seconds": 3,
    "request-timeout-seconds": 60,
    "stream-idle-seconds": 2,
}
_FIRST_PASS = 0.25
_TIMEOUT_SECONDS = 60.0
_MAX_GROWTH = 0.02
_MAX_GROWTH_MB = 4.0  # a few pages of the allocator, in a server of 100 MB

_FAILURE = re.compile(r"Traceback|Error:| 500 [\d.]+ ms ")

__all__ = ["Attempt", "Kind", "Server", "build", "iterate_attempts", "list_all_kinds", "make_attempts", "run"]

_Row = tuple[str, int, int, str]


def run(quick: bool) -> Iterator[_Row]:
    """Make all requests; `quick` makes a fiftieth of them."""
    kinds = list_all_kinds()
    with Server() as server:
        expected = server.tag()
        with ThreadPoolExecutor(8) as executor:  # Every interpreter and decoder is created.
            list(executor.map(lambda _: server.tag(), range(32)))
        results: dict[str, list[str]] = {kind.name: [] for kind in kinds}
        tries = {kind.name: max(4, kind.tries // 50 if quick else kind.tries) for kind in kinds}
        usages = []
        for is_second in (False, True):
            for kind in kinds:
                first = max(2, round(_FIRST_PASS * tries[kind.name]))
                attempts = list(iterate_attempts(kind, tries[kind.name]))
                attempts = attempts[first:] if is_second else attempts[:first]
                results[kind.name] += asyncio.run(make_attempts(server.port, attempts, kind))
                results[kind.name] += server.check(expected)
            usages.append(server.measure_usage(75.0 * (not quick)))
        for name, reasons in results.items():
            yield f"serve, {name}", tries[name], len(reasons), "; ".join(dict.fromkeys(reasons))[:300]
        for name, before, after in zip(("memory", "files", "processes"), *usages, strict=True):
            allowed = before + (max(_MAX_GROWTH_MB, _MAX_GROWTH * before) if name == "memory" else 0)
            # Few requests are the first of their kind in the second pass too, and decoders wait for their end.
            has_grown = after > allowed and not quick
            unit = " MB" if name == "memory" else ""
            yield f"serve, growth of {name}", 1, int(has_grown), f"{before:g}{unit}, then {after:g}{unit}"
        errors = server.find_errors()
        yield "serve, lines of errors in the log", 1, len(errors), "; ".join(errors[:3])


def list_all_kinds() -> list[Kind]:
    """Return all kinds of requests and of clients of the WebSocket."""
    return [*list_kinds(), *list_json_kinds(), *list_stream_kinds(), _CONNECTIONS]


_CONNECTIONS = Kind(
    "a thousand connections at once", 1_000, lambda r: Attempt([b""], frozenset({408, 503, LOST})), concurrency=1_000
)


class Server:
    """A server with low limits, in a process of its own."""

    def __enter__(self) -> "Server":
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")
        flags = [f"--{name}={value}" for name, value in _LIMITS.items()]
        command = [sys.executable, "-m", "kerastag", "serve", "--model", f"m={BUNDLED_MODEL}", f"--port={self.port}"]
        self._process = subprocess.Popen([*command, *flags], stdout=self._log, stderr=self._log, start_new_session=True)
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while self._get("/readyz") != 200:
            if time.monotonic() > deadline:
                raise TimeoutError("the server did not start")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def tag(self) -> bytes:
        """Return the answer for a recording of a second."""
        url = f"http://127.0.0.1:{self.port}/v1/tag"
        with urlopen(Request(url, encode("FLAC"), method="POST"), timeout=_TIMEOUT_SECONDS) as answer:
            return answer.read()

    def check(self, expected: bytes) -> list[str]:
        """Return what is wrong with the server after requests of a kind."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the server has ended with status {self._process.returncode}")
        deadline, problem = time.monotonic() + 10, ""
        while time.monotonic() < deadline:  # Connections of the last kind may still be open.
            try:
                problem = "" if self.tag() == expected else "other tags than before"
            except (URLError, OSError) as error:
                problem = f"no tags afterwards: {error}"
            if not problem:
                return []
            time.sleep(0.2)
        return [problem]

    def measure_usage(self, wait_seconds: float) -> tuple[float, int, int]:
        """Return the resident memory in megabytes, and the number of open files and of processes below it.

        Args:
            wait_seconds: Time in which idle decoders end, which they do after a minute.
        """
        deadline = time.monotonic() + wait_seconds
        while len(children := self._list_children()) > 1 and time.monotonic() < deadline:
            time.sleep(0.5)
        folder = Path(f"/proc/{self._process.pid}")
        status = (folder / "status").read_text(encoding="utf-8")
        kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return round(kilobytes * 1024 / 1e6, 1), len(list((folder / "fd").iterdir())), len(children)

    def find_errors(self) -> list[str]:
        """Return the lines of the log that tell of a failure of the server itself."""
        self._log.seek(0)
        return [line.strip()[:200] for line in self._log if _FAILURE.search(line)]

    def _get(self, path: str) -> int:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status
        except (URLError, OSError):
            return 0

    def _list_children(self) -> list[int]:
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return [int(each) for task in tasks for each in (task / "children").read_text(encoding="utf-8").split()]


async def make_attempts(port: int, attempts: list[Attempt], kind: Kind) -> list[str]:
    """Make attempts, some at the same time, and return what is wrong with their answers."""
    reasons = []
    remaining = iter(attempts)

    async def run_client() -> None:
        for attempt in remaining:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    status, answer = await _make_attempt(port, attempt)
            except TimeoutError:
                reasons.append(f"no answer to {_show(attempt)}")
                continue
            if not attempt.closes and status not in attempt.statuses:
                reasons.append(f"{status} for {_show(attempt)}: {answer[-150:]!r}")
            if attempt.forbidden in answer:
                reasons.append(f"a file of the server for {_show(attempt)}")

    await asyncio.gather(*(run_client() for _ in range(min(kind.concurrency, len(attempts)))))
    return reasons


async def _make_attempt(port: int, attempt: Attempt) -> tuple[int, bytes]:
    """Return the status of the answer, or the code with which a WebSocket was closed; and the answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return LOST, b""
    answer = bytearray()
    reading = asyncio.ensure_future(_read_answer(reader, answer))
    try:
        for number, part in enumerate(attempt.parts):
            if isinstance(part, float):
                await asyncio.wait((reading,), timeout=part)
            else:
                writer.write(part)
                await writer.drain()
            while attempt.waits and not number and not answer and not reading.done():
                await asyncio.sleep(0.001)
            if reading.done():
                break
        if not attempt.closes:
            await reading
    except OSError:  # The server has closed the connection; its answer has arrived, if there is one.
        await reading
    finally:
        reading.cancel()
        writer.transport.abort()
    return _parse_status(bytes(answer)), bytes(answer)


async def _read_answer(reader: asyncio.StreamReader, answer: bytearray) -> None:
    """Read until an answer is whole, or a WebSocket or the connection is closed."""
    with contextlib.suppress(OSError):
        while not _is_complete(bytes(answer)) and (part := await reader.read(1 << 16)):
            answer += part


def _is_complete(answer: bytes) -> bool:
    """Return whether an answer is whole, or a WebSocket has been closed."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    if head.startswith(b"HTTP/1.1 101"):
        return _find_close(body) is not None
    if head.startswith(b"HTTP/1.1 100"):
        return _is_complete(body)
    _, _, length = head.lower().partition(b"content-length:")
    return bool(length) and len(body) >= int(length.split(b"\r\n", 1)[0])


def _parse_status(answer: bytes) -> int:
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return _parse_status(body)
    if not head.startswith(b"HTTP/1.1 "):
        return LOST
    status = int(head[9:12])
    return status if status != 101 else _find_close(body) or LOST


def _find_close(frames: bytes) -> int | None:
    """Return the code of the first close frame, LOST if it has none, None if there is no such frame."""
    position = 0
    while position + 2 <= len(frames):
        opcode, length = frames[position] & 15, frames[position + 1] & 127
        start = position + {126: 4, 127: 10}.get(length, 2)
        if length > 125:
            length = int.from_bytes(frames[position + 2 : start])
        if opcode == 8:
            return int.from_bytes(frames[start : start + 2]) if length >= 2 else LOST
        position = start + length
    return None


def _show(attempt: Attempt) -> str:
    content = b"".join(part for part in attempt.parts if isinstance(part, bytes))
    return repr(content.replace(b"\r\n", b" ")[:230])
