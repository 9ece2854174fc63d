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
from sounds import create_rain

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

    def find_decoders(self) -> list[int]:
        """Find the processes that decode recordings."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text(encoding="ascii").split()]

    def wait_for_decoder(self) -> None:
        """Wait until a recording is being decoded: a decoder has a file in memory."""
        deadline = time.monotonic() + 30
        while not any(_has_recording(pid) for pid in self.find_decoders()):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._thread.join()
        return status


def _has_recording(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return any("memfd:recording" in str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir())
    return False


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
    """Create a waveform with rain and tones, float32 `(samples,)`."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = 0.3 * np.sin(2 * np.pi * 660 * times) * (np.sin(2 * np.pi * 0.4 * times) > 0)
    rain = create_rain(seconds, sample_rate, seed) * (np.sin(2 * np.pi * 0.13 * times) > 0.3)
    return (tone + rain).astype(np.float32)


def encode(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Encode samples `(samples,)` or `(samples, channels)` as a file."""
    file = io.BytesIO()
    channels = 1 if waveform.ndim == 1 else waveform.shape[1]
    with soundfile.SoundFile(file, "w", sample_rate, channels, subtype, format=format) as sound_file:
        for first in range(0, len(waveform), sample_rate):  # The encoder of Vorbis crashes on long blocks.
            sound_file.write(waveform[first : first + sample_rate])
    return file.getvalue()
