"""A URL -> blocks, through a child that runs ffmpeg: cameras (rtsp), radio (http), and whatever else it speaks."""

from __future__ import annotations

import collections
import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import IO
from urllib.parse import unquote, urlsplit

from kerastag.edge.blocks import Block, now
from kerastag.edge.sources.interruptible import InterruptibleReader, Stalled
from kerastag.edge.sources.pcm import PcmFormat, pcm_blocks
from kerastag.edge.sources.reopening import Lost

__all__ = ["FfmpegSession", "is_live_url", "is_url", "without_secrets"]

STALL_SECONDS = 10.0
# By default ffmpeg reads up to 5 MB before it gives a sample: minutes of a slow radio.
_BEGIN_SOON = ("-probesize", "200000", "-analyzeduration", "1000000")
_LIVE_SCHEMES = frozenset(("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srtp", "udp", "tcp", "srt", "unix"))
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(source: str) -> bool:
    """Whether a source is a URL, which ffmpeg opens, and not a file."""
    return bool(_URL.match(source))


def is_live_url(url: str) -> bool:
    """Whether what a URL names has no end, by its scheme: a camera has none, what a web server has may have one."""
    return urlsplit(url).scheme.lower() in _LIVE_SCHEMES


def without_secrets(url: str) -> str:
    """A URL -> the same without user, password and query, for messages.

    >>> without_secrets("rtsp://admin:secret@camera:554/live?token=1")
    'rtsp://camera:554/live'
    """
    scheme, rest = url.split("://", 1)
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


class FfmpegSession:
    """One run of ffmpeg -> blocks of the first audio stream of a URL, at its own rate and number of channels.

    Args:
        url: What ffmpeg takes.
        stall_seconds: After how long without a byte the source counts as lost, above 0.
        live: Whether blocks are stamped with the time at which they came.

    Raises:
        ValueError: ffmpeg is not installed. While iterating, `Lost`: nothing came in time, or ffmpeg gave up; the
            text has what ffmpeg said.
    """

    def __init__(self, url: str, stall_seconds: float = STALL_SECONDS, *, live: bool = False) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise ValueError(f"{without_secrets(url)}: needs the program ffmpeg on the PATH (apt install ffmpeg)")
        self.name = without_secrets(url)
        self.live = live
        self._url = url
        over_tcp = ["-rtsp_transport", "tcp"] if url.lower().startswith("rtsp") else []
        output = ["-map", "0:a:0", "-c:a", "pcm_f32le", "-bitexact", "-flush_packets", "1", "-f", "wav", "pipe:1"]
        command = [program, "-v", "error", "-nostdin", *_BEGIN_SOON, *over_tcp, "-i", url, *output]
        # In a group of its own, so that an interrupt from the terminal ends the stream before its source.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        assert self._process.stdout is not None  # for the type checker: both are pipes
        assert self._process.stderr is not None
        self._said: collections.deque[str] = collections.deque(maxlen=10)
        self._listener = threading.Thread(target=self._keep, args=(self._process.stderr,), name="ffmpeg", daemon=True)
        self._listener.start()
        self._reader = InterruptibleReader(self._process.stdout.fileno(), stall_seconds)

    def __iter__(self) -> Iterator[Block]:
        any_block = False
        try:
            for rate, samples in pcm_blocks(self._reader.read, PcmFormat(), self.name):
                any_block = True
                yield Block(samples, rate, now() - len(samples) / rate if self.live else None)
        except Stalled as error:
            raise Lost(f"{self.name}: {error}{self._complaint()}") from None
        if self._reader.stopped:
            return
        self._process.wait()
        self._listener.join(1.0)
        if self._process.returncode or not any_block:
            raise Lost(f"{self.name}: ffmpeg ended with status {self._process.returncode}{self._complaint()}")

    def stop(self) -> None:
        """End the blocks soon, from a signal handler or another thread."""
        self._reader.stop()

    def close(self) -> None:
        """End ffmpeg, whatever it is waiting for."""
        self._process.kill()
        self._process.wait()
        self._listener.join(1.0)
        self._reader.close()
        for pipe in (self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _keep(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed while it was read
            for line in pipe:
                self._said.append(line[:500].decode(errors="replace").strip())

    def _complaint(self) -> str:
        """The last thing that ffmpeg said, without what a log must not hold."""
        if not self._said:
            return ""
        line = re.sub(r"^\[.*?\] ", "", self._said[-1]).replace(self._url, self.name)
        if password := urlsplit(self._url).password:
            line = line.replace(password, "…").replace(unquote(password), "…")
        return f" (ffmpeg: {line})"
