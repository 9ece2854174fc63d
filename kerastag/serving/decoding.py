"""Decoding recordings in processes of their own, with limits of time and memory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.serving.decoder_process import BLOCK_SECONDS, END, ERROR, NUM_SLOTS, START, receive_exactly
from kerastag.serving.errors import RequestError
from kerastag.serving.jobs import Job
from kerastag.serving.plain_wav import count_plain_samples, read_plain_blocks
from kerastag.serving.uploads import Upload
from kerastag.tagger.start_times import parse_file_name

__all__ = ["DecodedRecording", "DecoderPool"]

_STATUSES = {"too_long": 413, "too_large": 413, "unsupported_audio": 415, "invalid_audio": 422}
_START_SECONDS = 60.0
_KEPT_BYTES = 32 << 20
_IDLE_SECONDS = 60.0
_MAX_RECORDINGS = 2_000  # after which a process is replaced, whatever its libraries have leaked
_MAX_STALL_SECONDS = 60.0  # of a decoder that gives nothing, though its server waits


class DecodedRecording:
    """A recording that is decoded while its blocks are read.

    Attributes:
        blocks: Iterator over mono blocks of 10 s, float32 `(samples,)`, the last one shorter.
        started_at: Time at which the recording starts; None if it is unknown.
        warnings: What is wrong with the recording, one line each; complete after the last block.
    """

    def __init__(self, blocks: Iterator[np.ndarray], started_at: datetime | None, warnings: list[str]) -> None:
        self.blocks, self.started_at, self.warnings = blocks, started_at, warnings


class DecoderPool:
    """Processes that decode recordings, one each at a time; they start when they are needed.

    A process that dies, takes too long or is left in the middle of a recording is replaced. Those that have nothing to
    do end after a minute, except one.

    Args:
        max_seconds: Longest recording, seconds; a longer one is an error of status 413.
        cpu_seconds: Processor time for one recording, seconds.
        memory_mb: Address space of a process, megabytes.
    """

    def __init__(self, max_seconds: float, cpu_seconds: int, memory_mb: int) -> None:
        self._max_seconds, self._cpu_seconds, self._memory_mb = max_seconds, cpu_seconds, memory_mb
        self._lock = threading.Lock()
        self._idle: list[_Decoder] = []
        self._closed = False
        self.num_started = 0
        """Number of processes that have been started."""

    def warm_up(self) -> None:
        """Start a process, so that the first recording need not wait for it."""
        self._release(self._acquire())

    @contextlib.contextmanager
    def decode(self, upload: Upload, sample_rate: int, channel: str | int, job: Job) -> Iterator[DecodedRecording]:
        """Decode a recording; a WAV file that needs no decoder is read in this process.

        Args:
            upload: Recording.
            sample_rate: Sample rate of the blocks, Hz.
            channel: What to make of several channels, as in `kerastag.audio.load`.
            job: Job whose time limit holds.

        Raises:
            RequestError: The recording is too long (413), not audio (415), or damaged (422), or the time is over
                (504); partly raised while the blocks are read.
        """
        num_samples = count_plain_samples(upload.descriptor, upload.size, sample_rate) if channel == "mean" else 0
        if 0 < num_samples <= self._max_seconds * sample_rate:
            yield _read_plain(upload, num_samples, sample_rate, job)
            return
        decoder = self._acquire()
        try:
            with _translate_death(decoder, upload, job):
                # The process is free for other recordings after its last block.
                recording = decoder.decode(upload, sample_rate, channel, job, self._cpu_seconds, self._max_seconds)
                yield recording
        finally:
            self._release(decoder)

    def end_idle(self) -> None:
        """End processes that have had nothing to do for a minute, except one."""
        now = time.monotonic()
        with self._lock:
            ended = [decoder for decoder in self._idle[:-1] if now - decoder.idle_since > _IDLE_SECONDS]
            self._idle = [decoder for decoder in self._idle if decoder not in ended]
        for decoder in ended:
            decoder.kill()

    def close(self) -> None:
        """End all idle processes, and those in use as soon as they are released."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for decoder in idle:
            decoder.kill()

    def _acquire(self) -> _Decoder:
        with self._lock:
            while self._idle:
                decoder = self._idle.pop()
                if decoder.is_alive():
                    return decoder
                decoder.kill()
            self.num_started += 1
        return _Decoder(self._memory_mb)

    def _release(self, decoder: _Decoder) -> None:
        decoder.idle_since = time.monotonic()
        with self._lock:
            if not self._closed and not decoder.is_busy and decoder.num_recordings < _MAX_RECORDINGS:
                self._idle.append(decoder)
                return
        decoder.kill()


class _Decoder:
    """One process."""

    def __init__(self, memory_mb: int) -> None:
        self._connection, other = socket.socketpair()
        script = Path(__file__).with_name("decoder_process.py")
        # One thread: OpenBLAS reserves address space for each. No locale or path of the user matters.
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
        # Memory that was used for a block is used for the next, which takes a third less time than new memory.
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES), "MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES)}
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-P", os.fspath(script), str(other.fileno()), str(memory_mb)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(other.fileno(),),
                env=environment,
                start_new_session=True,  # so that it ends together with ffmpeg, which it starts
            )
        self.is_busy = False
        self._is_started = False
        self._sample_rate, self._slots = 0, np.zeros((NUM_SLOTS, 0), "<f4")
        self.num_recordings = 0
        self.idle_since = time.monotonic()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def decode(
        self, upload: Upload, sample_rate: int, channel: str | int, job: Job, cpu_seconds: int, max_seconds: float
    ) -> DecodedRecording:
        """Send a request, and return the recording whose blocks are still to be read."""
        self.is_busy = True
        self.num_recordings += 1
        if not self._is_started:
            self._connection.settimeout(max(0.001, min(_START_SECONDS, job.remaining_seconds)))
            if self._connection.recv(1) != START:
                raise EOFError
            self._is_started = True
        request = {"name": upload.display_name, "sample_rate": sample_rate, "channel": channel}
        request |= {"cpu_seconds": cpu_seconds, "max_seconds": max_seconds}
        content = json.dumps(request).encode()
        with self._share_memory(sample_rate) as descriptors:
            socket.send_fds(self._connection, [struct.pack("<I", len(content))], [upload.descriptor, *descriptors])
        self._connection.sendall(content)
        _, started_at = self._read_frame(job)
        warnings: list[str] = []
        time = datetime.fromisoformat(started_at.decode()) if started_at else None
        return DecodedRecording(self._read_blocks(job, warnings), time, warnings)

    @contextlib.contextmanager
    def _share_memory(self, sample_rate: int) -> Iterator[list[int]]:
        """Yield the descriptor of memory for blocks at a sample rate, or none if the process has it already."""
        if sample_rate == self._sample_rate:
            yield []
            return
        descriptor = os.memfd_create("blocks", os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, NUM_SLOTS * 4 * round(BLOCK_SECONDS * sample_rate))
            # Otherwise the process could end this one by making the memory smaller.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
            self._sample_rate, self._slots = sample_rate, np.frombuffer(memory, "<f4").reshape(NUM_SLOTS, -1)
            yield [descriptor]
        finally:
            os.close(descriptor)

    def _read_blocks(self, job: Job, warnings: list[str]) -> Iterator[np.ndarray]:
        number = 0
        while True:
            job.check()
            kind, content = self._read_frame(job)
            if kind == END:
                warnings += json.loads(content)["warnings"]
                self.is_busy = False
                return
            length = min(struct.unpack("<I", content)[0], self._slots.shape[1])
            block = self._slots[number % NUM_SLOTS, :length].copy()
            number += 1
            self._connection.sendall(b".")  # The process may use the memory of the block again.
            yield block

    def _read_frame(self, job: Job) -> tuple[bytes, bytes]:
        self._connection.settimeout(max(0.001, min(_MAX_STALL_SECONDS, job.remaining_seconds)))
        header = receive_exactly(self._connection, 5)
        if len(header) < 5:
            raise EOFError
        kind, size = header[:1], struct.unpack("<I", header[1:])[0]
        content = receive_exactly(self._connection, size)
        if len(content) < size:
            raise EOFError
        if kind == ERROR:
            self.is_busy = False
            values: dict[str, Any] = json.loads(content)
            raise RequestError(_STATUSES[values["kind"]], values["kind"], values["message"])
        return kind, content

    def get_end_signal(self) -> int:
        """Return the number of the signal that has ended the process; 0 if none has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return -min(0, self._process.returncode or 0)

    def kill(self) -> None:
        """End the process, and the programs that it has started."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _read_plain(upload: Upload, num_samples: int, sample_rate: int, job: Job) -> DecodedRecording:
    """Return a recording that needs no decoder."""

    def read_blocks() -> Iterator[np.ndarray]:
        for block in read_plain_blocks(upload.descriptor, num_samples, round(BLOCK_SECONDS * sample_rate)):
            job.check()
            yield block

    return DecodedRecording(read_blocks(), parse_file_name(upload.display_name), [])


@contextlib.contextmanager
def _translate_death(decoder: _Decoder, upload: Upload, job: Job) -> Iterator[None]:
    """Raise a `RequestError` for a process that has ended or does not answer."""
    try:
        yield
    except (EOFError, ConnectionError):
        number = decoder.get_end_signal()
        reason = "needs too much processor time" if number == signal.SIGXCPU else "ends its decoder"
        raise RequestError(422, "invalid_audio", f"{upload.display_name}: cannot be decoded: it {reason}") from None
    except TimeoutError:
        if not job.remaining_seconds:
            raise job.create_timeout() from None
        raise RequestError(422, "invalid_audio", f"{upload.display_name}: cannot be decoded in time") from None
