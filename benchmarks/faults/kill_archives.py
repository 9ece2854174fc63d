"""`kerastag archive`, killed at random moments and run again: its files must have the bytes of an undisturbed run."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from archive.conftest import read_digests, write_recordings
from archive.kills import find_workers

_ROOT = Path(__file__).resolve().parents[2]
_COMMAND = ("archive", "recordings", "--model", "esc10", "--jobs", "2", "--shard-files", "20", "--embeddings")
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_ROOT)}


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Kill the command and the processes that it starts; `quick` makes fewer tries."""
    num_files, num_kills = (100, 5) if quick else (2_000, 50)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(folder / "recordings", num_files)
        start = time.monotonic()
        with _start(folder, "undisturbed") as process:
            if process.wait():
                raise RuntimeError("an undisturbed run has failed")
        seconds = time.monotonic() - start
        expected = read_digests(folder / "undisturbed")
        for test, kill in (("the command", _kill_command), ("a process that tags", _kill_worker)):
            failures = kill(folder, num_kills, seconds, expected)
            yield f"archive, with {test} killed", num_kills, len(failures), "; ".join(dict.fromkeys(failures[:3]))


def _start(folder: Path, output: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "kerastag", *_COMMAND, "--output", output]
    return subprocess.Popen(command, cwd=folder, env=_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _kill_command(folder: Path, num_kills: int, seconds: float, expected: dict[str, str]) -> list[str]:
    """Kill the command after random times, run it again each time, with another output folder when it is done."""
    rng, kills, failures, number = np.random.default_rng(0), 0, list[str](), 0
    while True:
        output = f"command{number}"
        with _start(folder, output) as process:
            try:
                status = process.wait(rng.uniform(0, seconds / 2) if kills < num_kills else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
                continue
        failures += _compare(folder / output, status, expected)
        number += 1
        if kills >= num_kills:
            return failures


def _kill_worker(folder: Path, num_kills: int, seconds: float, expected: dict[str, str]) -> list[str]:
    """Kill one of the processes that tag after random times, in as many runs as it takes."""
    rng, kills, failures, number = np.random.default_rng(1), 0, list[str](), 0
    while kills < num_kills:
        output = f"worker{number}"
        with _start(folder, output) as process:
            poll = partial(process.wait, rng.uniform(1.0, max(2.0, seconds / 10)))
            while kills < num_kills and _is_running(poll):
                for pid in find_workers(process.pid)[:1]:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            status = process.wait()
        failures += _compare(folder / output, status, expected)
        number += 1
    return failures


def _is_running(poll: partial) -> bool:
    try:
        poll()
    except subprocess.TimeoutExpired:
        return True
    return False


def _compare(output: Path, status: int, expected: dict[str, str]) -> list[str]:
    if status:
        return [f"status {status}"]
    digests = read_digests(output)
    different = sorted(name for name in digests.keys() | expected if digests.get(name) != expected.get(name))
    stale = [path.name for path in output.rglob(".*") if path.name != ".archive.lock"]
    return [f"other bytes: {name}" for name in different[:1]] + [f"left behind: {name}" for name in stale[:1]]
