"""Files that are read in child processes: each must be read, or refused by a ValueError that names it."""

import resource
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _kills import call_in_child, limit_time

MAX_BYTES = 1 << 28  # of memory, beyond that of this process
_MAX_SECONDS = 60  # for the tries of one child process
_TRIES_PER_CHILD = 20
_HEAD_BYTES = 400  # which every second try changes


def change_bytes(
    kind: str, path: Path, read: Callable[[Path], Any], tries: int, max_bytes: int = MAX_BYTES
) -> tuple[str, int, int, str]:
    """Read a file with changed bytes, or its beginning, and return a row of the table."""
    content = path.read_bytes()

    def make_files() -> Iterator[Path]:
        random = np.random.default_rng(0)
        for number in range(tries):
            changed = bytearray(content)
            end = len(content) if number % 2 else min(_HEAD_BYTES, len(content))
            for position in random.integers(0, end, 1 + number % 8):
                changed[position] = random.integers(0, 256)
            mutant = path.with_name(f"mutant{path.suffix}")
            mutant.write_bytes(changed[: random.integers(1, len(content))] if number % 10 == 9 else changed)
            yield mutant

    return report(f"{kind}, with changed bytes", try_files(make_files(), read, must_fail=False, max_bytes=max_bytes))


def try_files(
    paths: Iterable[Path], read: Callable[[Path], Any], *, must_fail: bool = True, max_bytes: int = MAX_BYTES
) -> tuple[int, list[str]]:
    """Read files in child processes, and return the number of tries and the reasons of failures."""
    tries, reasons, files = 0, [], iter(paths)
    while batch := _take(files):
        with tempfile.NamedTemporaryFile("r+", encoding="utf-8") as log:
            status = call_in_child(lambda: _read_batch(batch, read, must_fail, max_bytes, Path(log.name)))
            reasons += log.read().splitlines()
        if status:
            reasons.append(f"a process ended with status {status}")
        tries += len(batch)
    return tries, reasons


def _take(files: Iterator[Path]) -> list[tuple[Path, bytes]]:
    batch = []
    for path in files:
        batch.append((path, path.read_bytes()))
        if len(batch) == _TRIES_PER_CHILD:
            break
    return batch


def _read_batch(
    batch: list[tuple[Path, bytes]], read: Callable[[Path], Any], must_fail: bool, max_bytes: int, log: Path
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_get_address_space() + max_bytes, hard))
    limit_time(_MAX_SECONDS)
    reasons = []
    for path, content in batch:
        path.write_bytes(content)
        try:
            read(path)
            if must_fail:
                reasons.append("accepted")
        except ValueError as error:
            if str(path) not in str(error):
                reasons.append(f"no path: {error!r}")
        except Exception as error:
            reasons.append(repr(error))
    log.write_text("".join(f"{' '.join(reason.split())[:200]}\n" for reason in reasons), encoding="utf-8")


def report(kind: str, result: tuple[int, list[str]]) -> tuple[str, int, int, str]:
    """Return a row of the table for tries and the reasons of failures."""
    tries, reasons = result
    return kind, tries, len(reasons), "; ".join(dict.fromkeys(reasons[:3]))


def _get_address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    return pages * resource.getpagesize()
