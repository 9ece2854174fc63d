"""Recordings of the seconds around events, as FLAC or WAV files in a folder of limited size."""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from kerastag.edge.sinks.sink import EventReport, Sink, SourceReport
from kerastag.files import remove_stale_files, write_bytes

__all__ = ["RECORDING_FORMATS", "RecorderSink"]

RECORDING_FORMATS = ("flac", "wav")
"""Formats of recordings."""
_NAME_PATTERN = "????-??-??T??-??-??.???Z_*"
_MAX_SECONDS = 3_600.0
# The limits of FLAC, and of memory: the recorder buffers more than a minute.
_MAX_CHANNELS, _MAX_FLAC_RATE = 8, 655_350


class RecorderSink(Sink):
    """A sink that records each event, or several overlapping events, with the seconds before and after.

    Samples are stored as they come, with their rate and channels, in 16 bits; more than eight channels are averaged,
    and FLAC above 655,350 Hz becomes WAV. Files are written whole or not at all. The name of a file is the time of its
    first sample in UTC (for a stream that is not live, counted from 1970) and the class of its first event:
    `2026-11-22T20-31-05.120Z_Bark.flac`; a number follows where the name exists. When the recordings exceed the quota,
    those that were written first are deleted. If the disk is full, the recording is lost and the stream continues.

    Args:
        folder: Folder of the recordings; it is created if it does not exist.
        log: Function that takes one line of text for the user.
        before_seconds: Duration that is recorded before the onset, seconds, 0 to 3,600.
        after_seconds: Duration that is recorded after the end, seconds, 0 to 3,600.
        longest_seconds: Duration of the longest recording, seconds, above 0, at most 3,600; longer events are cut.
        delay_seconds: Maximum time from the onset of an event to its report, seconds.
        quota_megabytes: Maximum size of all recordings, megabytes, above 0.
        format: `"flac"` or `"wav"`.
    """

    needs_audio = True

    def __init__(
        self,
        folder: str,
        log: Callable[[str], None] = print,
        *,
        before_seconds: float = 3.0,
        after_seconds: float = 3.0,
        longest_seconds: float = 60.0,
        delay_seconds: float = 15.0,
        quota_megabytes: float = 500.0,
        format: str = "flac",
    ) -> None:
        for name, value in (("before_seconds", before_seconds), ("after_seconds", after_seconds)):
            if not 0 <= value <= _MAX_SECONDS:
                raise ValueError(f"`{name}` must be from 0 to {_MAX_SECONDS:g}; received: {value!r}")
        if not 0 < longest_seconds <= _MAX_SECONDS:
            raise ValueError(
                f"`longest_seconds` must be above 0, at most {_MAX_SECONDS:g}; received: {longest_seconds!r}"
            )
        for name, value in (("delay_seconds", delay_seconds), ("quota_megabytes", quota_megabytes)):
            if not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be above 0; received: {value!r}")
        if format not in RECORDING_FORMATS:
            raise ValueError(f"`format` must be one of {', '.join(RECORDING_FORMATS)}; received: {format!r}")
        if not folder:
            raise ValueError("`output` must name a folder after record:; received: none")
        self.name = f"recordings in {folder}"
        self._folder, self._format, self._log = Path(folder), format, log
        self._before, self._after, self._longest = before_seconds, after_seconds, longest_seconds
        self._quota_bytes = quota_megabytes * 1e6
        self._buffer = _AudioBuffer(before_seconds + delay_seconds + longest_seconds + after_seconds)
        self._active_classes: set[str] = set()
        self._recording: _PendingRecording | None = None
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_stale_files(self._folder)
        for path in self._folder.glob("*.part"):  # Versions before 0.1 named their temporary files like this.
            path.unlink()

    def write_audio(self, samples: np.ndarray, sample_rate: int, end_seconds: float) -> None:
        if samples.ndim == 2 and samples.shape[1] > _MAX_CHANNELS:
            samples = samples.mean(axis=1, dtype=np.float32)
        if self._recording is not None and not self._buffer.is_continued_by(samples, sample_rate, end_seconds):
            self._finish()
        self._buffer.add(samples, sample_rate, end_seconds)
        recording = self._recording
        if recording is not None and end_seconds >= min(recording.start_seconds + self._longest, recording.end_seconds):
            self._finish()

    def write_event(self, report: EventReport) -> None:
        if report.state == "begin":
            self._active_classes.add(report.name)
            if self._recording is None:
                started_at = 0.0 if report.time is None else report.time - report.onset_seconds
                start_seconds = max(0.0, report.onset_seconds - self._before)
                self._recording = _PendingRecording(report.name, start_seconds, started_at)
            self._recording.end_seconds = math.inf
            return
        self._active_classes.discard(report.name)
        if self._recording is not None and not self._active_classes:
            self._recording.end_seconds = (report.offset_seconds or 0.0) + self._after
            if self._buffer.end_seconds >= self._recording.end_seconds:
                self._finish()

    def write_source(self, report: SourceReport) -> None:
        if report.state == "lost" and self._recording is not None:
            self._finish()

    def close(self) -> None:
        if self._recording is not None:
            self._finish()

    def _finish(self) -> None:
        recording, self._recording = self._recording, None
        assert recording is not None  # For the type checker: all callers have checked it.
        self._active_classes.clear()
        end_seconds = min(recording.end_seconds, recording.start_seconds + self._longest)
        samples, rate, start_seconds = self._buffer.extract(recording.start_seconds, end_seconds)
        if not len(samples):
            return
        format = "wav" if rate > _MAX_FLAC_RATE else self._format
        path = self._create_path(recording.started_at + start_seconds, recording.class_name, format)
        try:
            encoded = io.BytesIO()  # The errors of libsndfile do not say that a disk is full.
            soundfile.write(encoded, samples, rate, format=format.upper(), subtype="PCM_16")
            write_bytes(path, encoded.getvalue())
            self._enforce_quota(path)
        except (OSError, soundfile.SoundFileError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            self._log(f"{self.name}: {path.name} could not be written ({reason}); the stream continues")

    def _create_path(self, seconds: float, class_name: str, format: str) -> Path:
        """Return a path that does not exist yet: an earlier stream from a pipe had the same times."""
        path = self._folder / _format_file_name(seconds, class_name, format)
        stem, number = path.stem, 1
        while path.exists():
            number += 1
            path = path.with_name(f"{stem}_{number}.{format}")
        return path

    def _enforce_quota(self, newest: Path) -> None:
        """Delete the recordings that were written first, but neither the newest one nor other files."""
        paths = [path for end in RECORDING_FORMATS for path in self._folder.glob(f"{_NAME_PATTERN}.{end}")]
        statuses = {path: path.stat() for path in paths}
        total = sum(status.st_size for status in statuses.values())
        # Not by name: the clock may have been wrong, and the times of a stream that is not live begin in 1970.
        for path in sorted(paths, key=lambda path: (statuses[path].st_mtime_ns, path)):
            if total <= self._quota_bytes:
                return
            if path != newest:
                path.unlink()
                total -= statuses[path].st_size


@dataclasses.dataclass
class _PendingRecording:
    """A recording whose end is not reached yet."""

    class_name: str  # Class of its first event.
    start_seconds: float
    started_at: float  # Time of day at second 0 of the stream, seconds since 1970.
    end_seconds: float = math.inf


class _AudioBuffer:
    """The last blocks of a stream, without a gap among them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._blocks: collections.deque[tuple[float, np.ndarray]] = collections.deque()  # Pairs of end and samples.
        self._rate = 0
        self.end_seconds = 0.0

    def is_continued_by(self, samples: np.ndarray, rate: int, end_seconds: float) -> bool:
        if not self._blocks or rate != self._rate or self._blocks[-1][1][0].size != samples[:1].size:
            return False
        return abs(end_seconds - len(samples) / rate - self.end_seconds) < 0.5 / rate + 1e-6

    def add(self, samples: np.ndarray, rate: int, end_seconds: float) -> None:
        if not self.is_continued_by(samples, rate, end_seconds):
            self._blocks.clear()
        samples = samples.reshape(len(samples), -1)
        self._rate, self.end_seconds = rate, end_seconds
        self._blocks.append((end_seconds, np.round(samples.clip(-1, 1) * 32767).astype(np.int16)))
        while self._blocks[0][0] < end_seconds - self._seconds:
            self._blocks.popleft()

    def extract(self, start_seconds: float, end_seconds: float) -> tuple[np.ndarray, int, float]:
        """Return the buffered samples of an interval, their rate in Hz, and the second at which they start."""
        if not self._blocks:
            return np.empty((0, 1), np.int16), self._rate, start_seconds
        samples = np.concatenate([block for _, block in self._blocks])
        buffer_start = self.end_seconds - len(samples) / self._rate
        first = max(0, round((start_seconds - buffer_start) * self._rate))
        last = len(samples) if end_seconds == math.inf else max(0, round((end_seconds - buffer_start) * self._rate))
        return samples[first:last], self._rate, buffer_start + first / self._rate


def _format_file_name(seconds: float, class_name: str, format: str) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    moment = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(whole))
    safe_name = re.sub(r"[^\w-]+", "_", class_name).strip("_") or "sound"
    return f"{moment}.{milliseconds:03d}Z_{safe_name[:60]}.{format}"
