"""The seconds around an event -> a FLAC or WAV file, in a folder that never grows beyond a quota."""

from __future__ import annotations

import collections
import contextlib
import io
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from kerastag.edge.reports import EventReport, ResultReport

__all__ = ["FORMATS", "Recorder"]

FORMATS = ("flac", "wav")
_PART = ".part"  # what is half written; a crash leaves it, the next start removes it
_OURS = "????-??-??T??-??-??.???Z_*"


class Recorder:
    """Blocks and events -> one file for each event, or for several that overlap, with the seconds before and after.

    Samples are kept as they came: rate, channels and all, 16 bits each. A file is there as a whole or not at all; its
    name is the time of its first sample in UTC (that of a stream that is not live counts from 1970 on) and the class
    that began it: `2026-11-22T20-31-05.120Z_Bark.flac`. When the folder holds more than the quota, its oldest
    recordings go. A full disk costs the recording, not the stream.

    Args:
        folder: Where the files go; made where it is missing.
        report: Takes one line for people.
        before_seconds, after_seconds: How much is kept before the onset and after the end, at least 0.
        longest_seconds: Longest recording, above 0; an event that goes on is then followed no further.
        delay_seconds: How late an event may be reported after its onset: so much more is remembered.
        quota_megabytes: Most that the recordings may take, above 0.
        format: `"flac"` or `"wav"`.

    Raises:
        ValueError: An argument is outside its range.
        OSError: The folder cannot be made or written to.
    """

    def __init__(
        self,
        folder: str,
        report: Callable[[str], None] = print,
        *,
        before_seconds: float = 3.0,
        after_seconds: float = 3.0,
        longest_seconds: float = 60.0,
        delay_seconds: float = 15.0,
        quota_megabytes: float = 500.0,
        format: str = "flac",
    ) -> None:
        for name, value in (("before_seconds", before_seconds), ("after_seconds", after_seconds)):
            if not 0 <= value < math.inf:
                raise ValueError(f"`{name}` must be at least 0, received {value!r}")
        for name, value in (("longest_seconds", longest_seconds), ("quota_megabytes", quota_megabytes)):
            if not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be above 0, received {value!r}")
        if format not in FORMATS:
            raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, received {format!r}")
        if not folder:
            raise ValueError("`output` must name a folder after record:, received nothing")
        self.name = f"recordings in {folder}"
        self._folder, self._format, self._report = Path(folder), format, report
        self._before, self._after, self._longest = before_seconds, after_seconds, longest_seconds
        self._quota_bytes = quota_megabytes * 1e6
        self._memory = _Memory(before_seconds + delay_seconds + longest_seconds + after_seconds)
        self._sounding: set[str] = set()
        self._take: _Take | None = None
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f"*{_PART}"):
            left.unlink()

    def audio(self, samples: np.ndarray, sample_rate: int, end_seconds: float) -> None:
        """The block that ends at this second of the stream, (samples,) or (samples, channels)."""
        if self._take is not None and not self._memory.followed_by(samples, sample_rate, end_seconds):
            self._finish()
        self._memory.add(samples, sample_rate, end_seconds)
        take = self._take
        if take is not None and end_seconds >= min(take.first_seconds + self._longest, take.end_seconds):
            self._finish()

    def result(self, report: ResultReport) -> None:
        """Nothing: recordings are of events."""

    def event(self, report: EventReport) -> None:
        """Begin a recording, go on with it, or see its end coming."""
        if report.state == "begin":
            self._sounding.add(report.name)
            if self._take is None:
                zero = 0.0 if report.time is None else report.time - report.onset_seconds
                self._take = _Take(report.name, max(0.0, report.onset_seconds - self._before), zero)
            self._take.end_seconds = math.inf
            return
        self._sounding.discard(report.name)
        if self._take is not None and not self._sounding:
            self._take.end_seconds = (report.offset_seconds or 0.0) + self._after
            if self._memory.end_seconds >= self._take.end_seconds:
                self._finish()

    def reopen(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Write what is being recorded."""
        if self._take is not None:
            self._finish()

    def _finish(self) -> None:
        take, self._take = self._take, None
        assert take is not None  # for the type checker: both callers have looked
        self._sounding.clear()
        end = min(take.end_seconds, take.first_seconds + self._longest)
        samples, rate, first = self._memory.between(take.first_seconds, end)
        if not len(samples):
            return
        path = self._folder / _file_name(take.zero + first, take.name, self._format)
        try:
            self._write(samples, rate, path)
            self._keep_to_quota(path)
        except OSError as error:
            self._report(f"{self.name}: {path.name} could not be written ({error.strerror}); the stream goes on")

    def _write(self, samples: np.ndarray, rate: int, path: Path) -> None:
        part = path.with_name(path.name + _PART)
        encoded = io.BytesIO()  # libsndfile says nothing useful of a full disk
        soundfile.write(encoded, samples, rate, format=self._format.upper(), subtype="PCM_16")
        try:
            with part.open("wb") as file:
                file.write(encoded.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _keep_to_quota(self, newest: Path) -> None:
        """Delete the oldest recordings, by their names, never the newest nor what is none."""
        files = sorted(path for end in FORMATS for path in self._folder.glob(f"{_OURS}.{end}"))
        sizes = {path: path.stat().st_size for path in files}
        total = sum(sizes.values())
        for path in files:
            if total <= self._quota_bytes or path == newest:
                return
            path.unlink()
            total -= sizes[path]


class _Take:
    """A recording that goes on: the class that began it, its first second, its last one as far as that is known."""

    def __init__(self, name: str, first_seconds: float, zero: float) -> None:
        self.name, self.first_seconds, self.zero = name, first_seconds, zero
        self.end_seconds = math.inf


class _Memory:
    """The last blocks of the stream, no longer back than `seconds`, without a gap among them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._blocks: collections.deque[tuple[float, np.ndarray]] = collections.deque()  # (end, samples)
        self._rate = 0
        self.end_seconds = 0.0

    def followed_by(self, samples: np.ndarray, rate: int, end_seconds: float) -> bool:
        """Whether a block goes on where the memory ends: no gap, and the same rate and channels."""
        if not self._blocks or rate != self._rate or self._blocks[-1][1][0].size != samples[:1].size:
            return False
        return abs(end_seconds - len(samples) / rate - self.end_seconds) < 0.5 / rate + 1e-6

    def add(self, samples: np.ndarray, rate: int, end_seconds: float) -> None:
        """A block of at least one sample; where it does not go on with the memory, that is forgotten."""
        if not self.followed_by(samples, rate, end_seconds):
            self._blocks.clear()
        samples = samples.reshape(len(samples), -1)
        self._rate, self.end_seconds = rate, end_seconds
        self._blocks.append((end_seconds, np.round(samples.clip(-1, 1) * 32767).astype(np.int16)))
        while self._blocks[0][0] < end_seconds - self._seconds:
            self._blocks.popleft()

    def between(self, first_seconds: float, end_seconds: float) -> tuple[np.ndarray, int, float]:
        """Samples (samples, channels) of these seconds as far as they are there, their rate, and the first second."""
        if not self._blocks:
            return np.empty((0, 1), np.int16), self._rate, first_seconds
        samples = np.concatenate([block for _, block in self._blocks])
        memory_begin = self.end_seconds - len(samples) / self._rate
        first = max(0, round((first_seconds - memory_begin) * self._rate))
        last = len(samples) if end_seconds == math.inf else max(0, round((end_seconds - memory_begin) * self._rate))
        return samples[first:last], self._rate, memory_begin + first / self._rate


def _file_name(seconds: float, class_name: str, format: str) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    moment = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(whole))
    safe = re.sub(r"[^\w-]+", "_", class_name).strip("_") or "sound"
    return f"{moment}.{milliseconds:03d}Z_{safe[:60]}.{format}"
