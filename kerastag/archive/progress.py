"""Progress of a run: a bar on a terminal, lines in a log, or JSON for machines."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

__all__ = ["Progress", "ProgressDisplay"]

_BAR = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"


class Progress:
    """Sums over the recordings of a run, which several threads add to.

    Args:
        num_files: Number of recordings to process.
        num_bytes: Their size, from which the time left is estimated.
    """

    def __init__(self, num_files: int, num_bytes: int) -> None:
        self.num_files, self.num_bytes = num_files, num_bytes
        self._files = self._bytes = self._failures = 0
        self._seconds = 0.0
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def add(self, num_files: int, num_bytes: int, seconds: float, num_failures: int) -> None:
        """Add finished files and bytes, seconds of audio, which may belong to an unfinished file, and failures."""
        with self._lock:
            self._files += num_files
            self._bytes += num_bytes
            self._seconds += seconds
            self._failures += num_failures

    def as_dict(self) -> dict[str, Any]:
        """Return the sums, the speed in seconds of audio per second, and the estimated seconds that are left."""
        elapsed = time.monotonic() - self._start
        share = self._bytes / self.num_bytes if self.num_bytes else self._files / max(1, self.num_files)
        return {
            "files": self._files,
            "total_files": self.num_files,
            "audio_hours": round(self._seconds / 3600, 4),
            "failures": self._failures,
            "elapsed_seconds": round(elapsed, 1),
            "times_real_time": round(self._seconds / max(elapsed, 1e-3), 1),
            "share": round(share, 4),
            "seconds_left": round(elapsed * (1 - share) / share, 1) if share else None,
        }

    def __str__(self) -> str:
        values = self.as_dict()
        return (
            f"{values['files']:,} of {values['total_files']:,} files, {values['audio_hours']:,.1f} h, "
            f"{values['times_real_time']:,.0f} times real time, {values['failures']:,} failures"
        )


class ProgressDisplay:
    """Display of a `Progress`: call `update` a few times per second.

    Args:
        progress: Progress to display.
        as_json: Whether to write JSON lines to standard output, instead of a bar or lines to standard error.
    """

    def __init__(self, progress: Progress, *, as_json: bool) -> None:
        self._progress, self._as_json = progress, as_json
        self._seconds_between = 1.0 if as_json else 60.0
        self._last = time.monotonic()
        self._bar: Any = None
        if not as_json and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=1.0, bar_format=_BAR, file=sys.stderr)

    def update(self) -> None:
        """Show the progress, if it is time."""
        if self._bar is not None:
            self._bar.set_description_str(str(self._progress), refresh=False)
            self._bar.n = self._progress.as_dict()["share"]
            self._bar.refresh()
        elif time.monotonic() - self._last >= self._seconds_between:
            self._last = time.monotonic()
            self._write()

    def close(self) -> None:
        """Show the final progress."""
        if self._bar is not None:
            self.update()
            self._bar.close()
        elif self._as_json:
            self._write()

    def _write(self) -> None:
        if self._as_json:
            print(json.dumps({"event": "progress", **self._progress.as_dict()}), flush=True)
        else:
            left = self._progress.as_dict()["seconds_left"]
            rest = "" if left is None else f", {left / 60:,.0f} min left"
            print(f"kerastag archive: {self._progress}{rest}", file=sys.stderr, flush=True)
