"""URLs as sources, opened by ffmpeg in a child process: cameras (rtsp), radio (http), and whatever else it supports."""

from __future__ import annotations

import collections
import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import IO
from urllib.parse import unquote

from kerastag._command import mask_urls
from kerastag.audio.ffmpeg import lacks_audio_track
from kerastag.edge.blocks import Block
from kerastag.edge.sources.pcm import InterruptibleReader, PcmFormat, SourceLostError, read_pcm_blocks

__all__ = ["FfmpegSession", "check_url", "is_live_url", "is_url", "remove_secrets"]

_TIMEOUT_SECONDS = 10.0
_OPENING_SECONDS = 15.0  # At least this long before the first byte: ffmpeg reads ahead to find the format.
# By default ffmpeg reads up to 5 MB before its first sample, which takes minutes with a slow radio station.
_FAST_START = ("-probesize", "200000", "-analyzeduration", "1000000")
_LIVE_SCHEMES = frozenset(("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srtp", "udp", "tcp", "srt", "unix"))
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(source: str) -> bool:
    """Return whether the address of a source is a URL and not a path."""
    return bool(_URL.match(source))


def is_live_url(url: str) -> bool:
    """Return whether the scheme of a URL, such as that of a camera, says that the source has no end."""
    return url.partition("://")[0].lower() in _LIVE_SCHEMES


def check_url(url: str) -> None:
    """Raise an error for a URL in which a part of the password may count as the path.

    >>> check_url("rtsp://admin:pa/ss@camera/live")
    Traceback (most recent call last):
    ValueError: `source` must be a URL in which /, ?, # and @ of user, password and path are percent-encoded (%2F, %3F,
    %23, %40); received: rtsp://…
    """
    scheme, authority, rest = _split_url(url)
    if "@" in rest and ":" in (authority + rest).rpartition("@")[0]:
        raise ValueError(
            "`source` must be a URL in which /, ?, # and @ of user, password and path are percent-encoded "
            f"(%2F, %3F, %23, %40); received: {scheme}://…"
        )


def remove_secrets(url: str) -> str:
    """Return a URL for messages: without user, password and query, and without a path that has values, as some cameras.

    >>> remove_secrets("rtsp://admin:secret@camera:554/live?token=1")
    'rtsp://camera:554/live'
    """
    scheme, authority, rest = _split_url(url)
    path = re.split("[?#]", rest)[0]
    return f"{scheme}://{authority.rpartition('@')[2]}{'/…' if '=' in path else path}"


def _split_url(url: str) -> tuple[str, str, str]:
    scheme, rest = url.split("://", 1)
    authority = re.split("[/?#]", rest)[0]
    return scheme, authority, rest[len(authority) :]


class FfmpegSession:
    """A run of ffmpeg that yields the first audio stream of a URL, at its own rate and number of channels.

    With `live`, blocks are stamped with the time at which they come. While iterating, it raises `SourceLostError` if
    nothing comes for `timeout_seconds`, or for 15 s at first, or if ffmpeg fails; the text has the message of ffmpeg.
    """

    def __init__(self, url: str, timeout_seconds: float = _TIMEOUT_SECONDS, *, live: bool = False) -> None:
        check_url(url)
        self.name = remove_secrets(url)
        program = shutil.which("ffmpeg")
        if program is None:
            raise ValueError(f"{self.name}: needs the program ffmpeg on the PATH (apt install ffmpeg)")
        self.live = live
        self._url = url
        transport = ["-rtsp_transport", "tcp"] if url.lower().startswith("rtsp") else []
        output = ["-map", "0:a:0", "-c:a", "pcm_f32le", "-bitexact", "-flush_packets", "1", "-f", "wav", "pipe:1"]
        command = [program, "-v", "error", "-nostdin", *_FAST_START, *transport, "-i", url, *output]
        # In its own process group, so that an interrupt from the terminal ends the stream before its source.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        assert self._process.stdout is not None  # For the type checker: both are pipes.
        assert self._process.stderr is not None
        self._messages: collections.deque[str] = collections.deque(maxlen=10)
        self._message_thread = threading.Thread(
            target=self._collect_messages, args=(self._process.stderr,), name="ffmpeg", daemon=True
        )
        self._message_thread.start()
        self._timeout_seconds = timeout_seconds
        self._reader = InterruptibleReader(self._process.stdout.fileno(), max(timeout_seconds, _OPENING_SECONDS))

    def __iter__(self) -> Iterator[Block]:
        is_empty = True
        try:
            for block in read_pcm_blocks(self._reader.read, PcmFormat(), self.name, self.live):
                is_empty = False
                self._reader.timeout_seconds = self._timeout_seconds
                yield block
        except SourceLostError as error:
            raise SourceLostError(f"{self.name}: {error}{self._format_message()}") from None
        if self._reader.stopped:
            return
        self._process.wait()
        self._message_thread.join(1.0)
        if (status := self._process.returncode) or is_empty:
            raise SourceLostError(f"{self.name}: ffmpeg ended with status {status}{self._format_message()}")

    def stop(self) -> None:
        self._reader.stop()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._message_thread.join(1.0)
        self._reader.close()
        for pipe in (self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _collect_messages(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):  # The pipe is closed while it is read.
            for line in pipe:
                self._messages.append(self._mask(line.decode(errors="replace").strip())[:500])

    def _format_message(self) -> str:
        """Return the last message of ffmpeg."""
        if not self._messages:
            return ""
        if lacks_audio_track(self._messages):
            return ": no audio track"
        line = re.sub(r"^\[.*?\] ", "", self._messages[-1])
        return f" (ffmpeg: {line})"

    def _mask(self, line: str) -> str:
        """Return a message of ffmpeg without what a log must not contain."""
        _, authority, rest = _split_url(self._url)
        user = authority.rpartition("@")[0]
        secrets = {user, user.partition(":")[2], rest.partition("?")[2], rest if "=" in rest else ""}
        line = mask_urls(line.replace(self._url, self.name))
        for secret in sorted({*secrets, *map(unquote, secrets)} - {""}, key=len, reverse=True):
            line = line.replace(secret, "…")
        return line
