"""WAV, FLAC, Ogg (Vorbis, Opus), MP3 and more -> blocks at their own rate, as much of them as is not damaged."""

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
import soundfile

from kerastag.audio.request import FRAMES_A_READ, Request, warn

_SHORT_SECONDS = 0.05  # an MP3's header may be a frame off; what lacks more than this is truncated
_MAX_OGG_PAGE = 65_307
_MP3_REACH = 16 * 1152


class CannotDecode(Exception):
    """libsndfile does not know the content, or finds no sample in it."""


def decode_by_libsndfile(request: Request) -> Iterator[tuple[int, np.ndarray]]:
    """(sample rate, (frames, channels) float32) from the offset on, and a warning where the file ends too early.

    Raises:
        CannotDecode: before the first block, so that another decoder may try.
    """
    with request.path.open("rb") as opened, _Nameless(opened.fileno(), "rb", closefd=False) as nameless:
        promised = _wav_frames(nameless)
        try:
            file = _Forward(nameless)
        except soundfile.LibsndfileError as error:
            # libsndfile says so of an MP3 without a whole frame, although the file is open by now.
            missing = "does not exist" in error.error_string
            raise CannotDecode("no whole frame in it" if missing else error.error_string.rstrip(".")) from None
        with file:
            if not file.frames:
                raise CannotDecode("no samples in it")
            start = round(request.offset_seconds * file.samplerate)
            got = 0
            for block in _read_blocks(file, start, request.native_frames(file.samplerate)):
                got += len(block)
                yield file.samplerate, block
            if not got and start < file.frames:
                raise CannotDecode("damaged before the first sample")
            _warn_if_short(request.name, start + got, max(promised, file.frames), file.samplerate)
            if file.format == "OGG" and not _ogg_is_complete(nameless):
                warn(
                    request.name,
                    f"truncated: its stream has no end; the {(start + got) / file.samplerate:.2f} s before",
                )


class _Nameless(io.FileIO):
    """A file by its number, so that soundfile cannot judge by the extension; a header's absurd offset goes nowhere."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:  # before the beginning: libsndfile sees that it is not where it wanted to be
            return self.tell()


class _Forward(soundfile.SoundFile):
    """A sound file that is read from front to back: soundfile otherwise seeks after each read, and MP3 goes mute."""

    def seekable(self) -> bool:
        return False


def _read_blocks(file: soundfile.SoundFile, start: int, wanted: int | None) -> Iterator[np.ndarray]:
    """Blocks (frames, channels) from frame `start` until the end or the first damage."""
    # After a seek an MP3 is mute until the frames that it refers back to have passed, and an Ogg may be somewhere else
    # (libsndfile 1.2.2, in a file's last page): start that much earlier, or at the beginning.
    early = min(start, {"MP3": _MP3_REACH, "OGG": start}.get(file.format, 0))
    with contextlib.suppress(soundfile.LibsndfileError):  # what is missing at the end is counted by the caller
        if start > early:
            file.seek(min(start, file.frames) - early)
        size = FRAMES_A_READ if wanted is None or early else min(FRAMES_A_READ, wanted)
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            dropped = min(early, len(block))
            early -= dropped
            if dropped < len(block):
                yield block[dropped:]


def _warn_if_short(name: str, frames: int, promised: int, rate: int) -> None:
    if promised - frames > _SHORT_SECONDS * rate:
        warn(name, f"truncated or damaged: {frames / rate:.2f} s of the {promised / rate:.2f} s in its header")


def _ogg_is_complete(file: IO[bytes]) -> bool:
    """Whether the last page of an Ogg file is marked as the end of its stream."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_OGG_PAGE))
    _, page, rest = file.read().rpartition(b"OggS")
    return bool(page and len(rest) > 1 and rest[1] & 4)


def _wav_frames(file: IO[bytes]) -> int:
    """Frames that a WAV header promises, which libsndfile cuts to what is there; 0 where it promises none."""
    frame_bytes = 0
    if (header := file.read(12))[:4] == b"RIFF" and header[8:] == b"WAVE":
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            if name == b"data":
                file.seek(0)
                streamed = size >= 0x7FFF_0000  # the length was not known when the header was written
                return 0 if streamed or not frame_bytes else size // frame_bytes
            body = file.read(min(size, 16))
            if name == b"fmt " and len(body) >= 14:
                frame_bytes = struct.unpack_from("<H", body, 12)[0]
            file.seek(size - len(body) + size % 2, os.SEEK_CUR)
    file.seek(0)
    return 0
