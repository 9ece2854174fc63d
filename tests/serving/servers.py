"""Servers that run in a process of their own, for tests of every kind."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import soundfile

from checks import ROOT

SAMPLE_RATE = 32_000  # of the bundled model


class RunningServer:
    """A server in a process; `lines` are those of its standard error so far."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "CUDA_VISIBLE_DEVICES": ""}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kerastag", "serve", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
        )
        self._thread = threading.Thread(target=self._read_lines, daemon=True)
        self._thread.start()

    def _read_lines(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def url(self) -> str:
        """Address of the server, which is waited for."""
        pattern = re.compile(r"kerastag serve: serving .* at (http://\S+)")
        return self.wait_for_line(pattern)[1]

    def wait_for_line(self, pattern: re.Pattern[str], seconds: float = 60.0) -> re.Match[str]:
        """Wait for a line that matches a pattern."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if match := pattern.fullmatch(line):
                    return match
            assert self.process.poll() is None, self.lines
            time.sleep(0.01)
        raise AssertionError(f"no line matches {pattern.pattern}: {self.lines}")

    def count_children(self) -> int:
        """Count the processes that decode recordings."""
        path = Path(f"/proc/{self.process.pid}/task")
        children = [task / "children" for task in path.iterdir()]
        return sum(len(child.read_text(encoding="ascii").split()) for child in children if child.exists())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._thread.join()
        return status


@contextlib.contextmanager
def run_server(*arguments: str) -> Iterator[RunningServer]:
    """Run `kerastag serve` with arguments on a free port of 127.0.0.1, by default with the bundled model."""
    server = RunningServer(arguments)
    try:
        assert httpx.get(f"{server.url}/readyz", timeout=60).status_code == 200
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
        server._thread.join()
        if server.process.stderr is not None:
            server.process.stderr.close()


def create_waveform(seconds: float, sample_rate: int = SAMPLE_RATE, seed: int = 0) -> np.ndarray:
    """Create a waveform with clicks, noise and tones, float32 `(samples,)`."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = 0.3 * np.sin(2 * np.pi * 660 * times) * (np.sin(2 * np.pi * 0.4 * times) > 0)
    noise = 0.1 * rng.standard_normal(len(times)) * (np.sin(2 * np.pi * 0.13 * times) > 0.3)
    return (tone + noise).astype(np.float32)


def encode(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Encode a waveform as a file."""
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format=format, subtype=subtype)
    return file.getvalue()
