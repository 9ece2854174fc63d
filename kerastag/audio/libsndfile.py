"""Decoding with libsndfile: WAV, FLAC, Ogg (Vorbis and Opus), MP3 and more, as far as a file is not damaged."""

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
import soundfile

from kerastag.audio.request import FRAMES_PER_READ, AudioWarning, Request

_MAX_MISSING_SECONDS = 0.05  # The header of an MP3 may be a frame off; a file that lacks more than this is truncated.
_MAX_OGG_PAGE_BYTES = 65_307
_MP3_PREROLL_FRAMES = 16 * 1152


class DecodingError(Exception):
    """libsndfile does not support the content of the file, or finds no sample in it."""


def decode_with_libsndfile(request: Request) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the sample rate of a file in Hz and samples `(frames, channels)`, float32, and warn if it ends too early.

    Raises:
        DecodingError: libsndfile cannot decode the file; raised before the first block, so another decoder may try.
    """
    with request.path.open("rb") as opened, _UnnamedFile(opened.fileno(), "rb", closefd=False) as unnamed:
        header_frames = _read_wav_frames(unnamed)
        try:
            file = _SequentialSoundFile(unnamed)
        except soundfile.LibsndfileError as error:
            # This is the message for an MP3 without a whole frame, although the file is open by now.
            no_frame = "does not exist" in error.error_string
            raise DecodingError("no whole frame" if no_frame else error.error_string.rstrip(".")) from None
        with file:
            if not file.frames:
                raise DecodingError("no samples")
            start = position = round(request.offset_seconds * file.samplerate)
            for block in _read_blocks(file, start, request.compute_max_frames(file.samplerate)):
                position += len(block)
                yield file.samplerate, block
            if position == start and start < file.frames:
                raise DecodingError("damaged before the first sample")
            header_frames = max(header_frames, file.frames)
            used = f"using the first {position / file.samplerate:.2f} s"
            if header_frames - position > _MAX_MISSING_SECONDS * file.samplerate:
                total = f"the {header_frames / file.samplerate:.2f} s in its header"
                warnings.warn(f"{request.name}: truncated or damaged; {used} of {total}", AudioWarning, stacklevel=2)
            if file.format == "OGG" and not _is_complete_ogg(unnamed):
                message = f"{request.name}: truncated, its Ogg stream has no end; {used}"
                warnings.warn(message, AudioWarning, stacklevel=2)


class _UnnamedFile(io.FileIO):
    """A file without a name, so that soundfile cannot use its extension.

    Seeking to a position before the beginning, as damaged headers ask for, leaves the file where it is.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:  # libsndfile notices from the result that the position is another one
            return self.tell()


class _SequentialSoundFile(soundfile.SoundFile):
    """A sound file that is read from front to back.

    Otherwise soundfile seeks after each read, and an MP3 is silent after each seek.
    """

    def seekable(self) -> bool:
        return False


def _read_blocks(file: soundfile.SoundFile, start: int, max_frames: int | None) -> Iterator[np.ndarray]:
    """Yield blocks `(frames, channels)` from frame `start` until the end or the first damage."""
    # After a seek, an MP3 is silent until the frames that it refers back to have passed, and an Ogg file may be at
    # another position (libsndfile 1.2.2, in the last page). So decoding starts earlier, for Ogg at the beginning.
    preroll = min(start, {"MP3": _MP3_PREROLL_FRAMES, "OGG": start}.get(file.format, 0))
    with contextlib.suppress(soundfile.LibsndfileError):  # the caller warns of what is missing at the end
        if start > preroll:
            file.seek(min(start, file.frames) - preroll)
        size = FRAMES_PER_READ if max_frames is None or preroll else min(FRAMES_PER_READ, max_frames)
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            skipped = min(preroll, len(block))
            preroll -= skipped
            if skipped < len(block):
                yield block[skipped:]


def _is_complete_ogg(file: IO[bytes]) -> bool:
    """Return whether the last page of an Ogg file is marked as the end of its stream."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_OGG_PAGE_BYTES))
    _, page, rest = file.read().rpartition(b"OggS")
    return bool(page and len(rest) > 1 and rest[1] & 4)


def _read_wav_frames(file: IO[bytes]) -> int:
    """Read the number of frames from a WAV header, which libsndfile limits to those that exist; 0 if unknown."""
    frame_bytes = 0
    if (header := file.read(12))[:4] == b"RIFF" and header[8:] == b"WAVE":
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            if name == b"data":
                file.seek(0)
                is_streamed = size >= 0x7FFF_0000  # the length was unknown when the header was written
                return 0 if is_streamed or not frame_bytes else size // frame_bytes
            body = file.read(min(size, 16))
            if name == b"fmt " and len(body) >= 14:
                frame_bytes = struct.unpack_from("<H", body, 12)[0]
            file.seek(size - len(body) + size % 2, os.SEEK_CUR)
    file.seek(0)
    return 0
