"""Downloads from a server that lies, downloads whose process is killed at every write, and two at once.

A file must be whole and right, or there must be an error and no file; the next call must give the right file, and
nothing else may be left.
"""

import contextlib
import hashlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from _kills import Killer, call_in_child
from lying_server import BEHAVIORS, BODY, LyingServer

from kerastag import fetch as fetch_module
from kerastag.fetch import FILES, DownloadError, PublicFile, fetch

_NAME = "test.csv"


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Download with and without a known SHA-256; `quick` tries fewer moments."""
    fetch_module._TIMEOUT_SECONDS, fetch_module._MAX_UNSTATED_BYTES = 0.5, 1 << 24
    yield _try_behaviors()
    yield _kill_everywhere(step=3 if quick else 1)
    yield _fetch_twice(tries=2 if quick else 12)


def _try_behaviors() -> tuple[str, int, int, str]:
    tries, reasons = 0, []
    for digest in (None, hashlib.sha256(BODY).hexdigest()):
        for behavior in BEHAVIORS:
            tries += 1
            with tempfile.TemporaryDirectory() as folder, LyingServer(behavior) as server:
                _prepare(folder, digest)
                with contextlib.suppress(DownloadError):
                    _fetch(server.url)
                path = Path(folder) / _NAME
                is_right = not path.exists() or path.read_bytes() == BODY
                server.behavior = "normal"
                if not is_right or _fetch(server.url).read_bytes() != BODY or _list_names(folder) != {_NAME}:
                    reasons.append(f"{behavior}, {'with' if digest else 'without'} a SHA-256")
    return "fetch, server behaviors, with and without a SHA-256", tries, len(reasons), "; ".join(reasons)


def _kill_everywhere(step: int) -> tuple[str, int, int, str]:
    """Kill a download at every write; the file on the server changes before the next call."""
    tries, reasons = 0, []
    for torn in (False, True):
        for is_resumed in (False, True):
            for kill_at in range(1, 10_000, step):
                with tempfile.TemporaryDirectory() as folder:
                    _prepare(folder, None)
                    with LyingServer("truncate") as server:
                        if is_resumed:
                            with contextlib.suppress(DownloadError):
                                _fetch(server.url)
                        server.behavior = "normal"
                        status = call_in_child(lambda: _fetch(server.url), Killer(kill_at, torn))
                        if status == 0:
                            break
                        tries += 1
                        if not (Path(folder) / _NAME).exists():
                            server.body, server.etag = BODY.swapcase(), '"two"'
                        is_right = status == -signal.SIGKILL and call_in_child(lambda: _fetch(server.url)) == 0
                        if not is_right or (Path(folder) / _NAME).read_bytes() not in (BODY, server.body):
                            reasons.append(f"{'torn ' if torn else ''}write {kill_at}: status {status}")
                        elif left := _list_names(folder) - {_NAME, f".{_NAME}.lock"}:
                            reasons.append(f"{'torn ' if torn else ''}write {kill_at}: {left} are left")
    return "fetch, killed at a write, the file changes in between", tries, len(reasons), "; ".join(reasons[:3])


def _fetch_twice(tries: int) -> tuple[str, int, int, str]:
    reasons = []
    for attempt in range(tries):
        with tempfile.TemporaryDirectory() as folder, LyingServer("slow") as server:
            _prepare(folder, None)
            if first := os.fork():
                second = call_in_child(lambda: _fetch(server.url))
                statuses = (os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]), second)
            else:
                os._exit(call_in_child(lambda: _fetch(server.url)))
            if statuses != (0, 0) or (Path(folder) / _NAME).read_bytes() != BODY or len(server.requests) != 1:
                reasons.append(f"try {attempt}: statuses {statuses}, {len(server.requests)} requests")
    return "two fetch of one file without SHA-256", tries, len(reasons), "; ".join(reasons[:3])


def _prepare(folder: str, digest: str | None) -> None:
    os.environ["KERASTAG_HOME"] = folder
    FILES["test"] = PublicFile("http://nowhere.invalid/", _NAME, "", digest)


def _list_names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def _fetch(url: str) -> Path:
    return fetch("test", base_url=url, progress=False)
