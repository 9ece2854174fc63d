"""Decoding with libsndfile: WAV, FLAC, Ogg (Vorbis and Opus), MP3 and more, to the end of the file."""

import contextlib
import math
import re
from collections.abc import Generator, Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from kerastag._native_logs import hide_native_logs
from kerastag.audio.pcm_lengths import is_padding, read_pcm_length
from kerastag.audio.request import FRAMES_PER_READ, Request
from kerastag.audio.section import UNKNOWN_FRAMES, Section
from kerastag.audio.sections import find_first_section, find_mpeg_section, find_next_section

_MAX_MISSING_SECONDS = 0.05  # The header of an MP3 may be a frame off.
_MAX_UNREAD_MP3_SECONDS = 0.25  # Encoders add frames at the end, which the number of frames in the header leaves out.
_SECONDS_PER_CALL = 10  # a call of libsndfile takes as long as decoding a part of a WAV file
_MAX_SAMPLES_PER_CALL = 1 << 19
_RAW_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")
_MP3_PREROLL_FRAMES = 16 * 1152
_MPG123_LINE = re.compile(rb"(\[[^\]\n]*libmpg123[^\]\n]*\]|Note: |Warning: )")


class DecodingError(Exception):
    """libsndfile does not support the content of the file, or finds no sample in it."""


class NoSamplesError(DecodingError):
    """libsndfile supports the content of the file, but finds no sample in it."""


def decode_with_libsndfile(request: Request, finds_mpeg: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the sample rate of a file in Hz and the requested samples `(frames, channels)`, float32.

    One warning names a file that is damaged, truncated, or longer than its header says.

    Args:
        request: What to read.
        finds_mpeg: Whether the file may begin in the middle of an MPEG frame.

    Raises:
        DecodingError: libsndfile cannot decode the file; raised before the first block, so another decoder may try.
    """
    with request.path.open("rb", buffering=0) as file:
        section = find_mpeg_section(file) if finds_mpeg else find_first_section(file)  # type: ignore[arg-type]
        if section is None:
            raise DecodingError("no MPEG frames")
        yield from _Decoder(file, request, section).decode()  # type: ignore[arg-type]


class _Decoder:
    """A decoder of one section of a file after the other. Positions count the frames that were decoded or skipped."""

    def __init__(self, file: BinaryIO, request: Request, section: Section) -> None:
        self._file, self._request, self._section = file, request, section
        self._sound_file = self._open_first()
        self._set_rate(self._sound_file.samplerate)
        self._position = self._section_frames = 0
        self._damaged_at: float | None = None
        self._is_truncated = False

    def decode(self) -> Iterator[tuple[int, np.ndarray]]:
        try:
            self._seek()
            first_position, is_last = self._position, False
            while not is_last:
                has_failed = yield from self._decode_section()
                is_last = self._position >= self._end or not self._open_next(has_failed)
            if self._position == first_position and self._start < self._header_frames < UNKNOWN_FRAMES:
                raise NoSamplesError("damaged before the first sample")
            self._warn()
        finally:
            self._sound_file.close()

    def _open_first(self) -> soundfile.SoundFile:
        try:
            sound_file = _open(self._section)
            length = read_pcm_length(self._file, sound_file.format, self._section)
            if length is not None and length.section is not None:
                sound_file.close()
                self._section = length.section
                sound_file = _open(self._section)
        except soundfile.LibsndfileError as error:
            # This is the message for an MP3 without a whole frame, although the file is open by now.
            no_frame = "does not exist" in error.error_string
            raise DecodingError("no whole frame" if no_frame else error.error_string.rstrip(".")) from None
        if not sound_file.frames:
            raise NoSamplesError("no samples")
        self._header_frames = sound_file.frames
        if length is not None and (length.section is not None or length.declared > length.available):
            self._header_frames = sound_file.frames * length.declared // max(1, length.available)
        return sound_file

    def _set_rate(self, rate: int) -> None:
        self._rate = rate
        self._start = round(self._request.offset_seconds * rate)
        self._end = self._start + (self._request.compute_max_frames(rate) or math.inf)

    def _seek(self) -> None:
        """Go to the start of the request, or a little before it. Where that fails, all before it is decoded."""
        # After a seek, an MP3 is silent until the frames that it refers back to have passed, and an Ogg file may be at
        # another position (libsndfile 1.2.2, in the last page).
        file = self._sound_file
        position = self._start - (_MP3_PREROLL_FRAMES if file.format == "MP3" else 0)
        if file.format == "OGG" or not 0 < position < file.frames:
            return
        try:
            with _hide_mpg123_lines(self._section):
                file.seek(position)
        except soundfile.LibsndfileError:
            file.close()
            self._section.seek(0)
            self._sound_file = _open(self._section)
        else:
            self._position = self._section_frames = position

    def _decode_section(self) -> Generator[tuple[int, np.ndarray], None, bool]:
        """Yield the blocks of a section until its end or the end of the request; return whether damage has ended it."""
        has_failed = False
        while not has_failed and self._position < self._end:
            channels = self._sound_file.channels
            max_frames = min(_SECONDS_PER_CALL * self._rate, _MAX_SAMPLES_PER_CALL // channels)
            num_frames = max(FRAMES_PER_READ, min(self._sound_file.frames - self._section_frames, max_frames))
            block, has_failed = self._read(int(min(num_frames, self._end - self._position)))
            if not len(block):
                break
            skipped = min(len(block), max(0, self._start - self._position))
            self._position += len(block)
            self._section_frames += len(block)
            # Channels may cancel each other for a short time; one channel needs no such small parts.
            size = len(block) if channels == 1 else FRAMES_PER_READ
            for start in range(skipped, len(block), size):
                yield self._rate, block[start : start + size]
        return has_failed

    def _read(self, num_frames: int) -> tuple[np.ndarray, bool]:
        """Read samples `(frames, channels)`, and whether damage has ended them."""
        file = self._sound_file
        if file.subtype == "PCM_16" and file.format in _RAW_FORMATS:
            # NumPy converts them to the same bits in a tenth of the time. Nothing in them can be damaged.
            return file.read(num_frames, "int16", always_2d=True) * np.float32(1 / 32_768), False
        block = np.full((num_frames, file.channels), np.nan, np.float32)
        try:
            with _hide_mpg123_lines(self._section):
                return file.read(out=block), False
        except soundfile.LibsndfileError:  # The samples before the damage are in the block.
            return block[: np.isnan(block[:, 0]).argmax()], True

    def _open_next(self, has_failed: bool) -> bool:
        """Open what follows a section, if it can be decoded."""
        format_name = self._sound_file.format
        self._sound_file.close()
        self._is_truncated |= self._section.is_truncated
        unread_bytes = self._section.end - self._section.file_position
        read_bytes = self._section.file_position - self._section.start
        unread_seconds = unread_bytes * self._section_frames / self._rate / max(1, read_bytes)
        if format_name == "MP3" and not has_failed and unread_seconds < _MAX_UNREAD_MP3_SECONDS:
            return False
        expected_frame = self._section.first_frame + self._section_frames
        section: Section | None = self._section
        while section is not None:
            section = find_next_section(self._file, section, format_name, self._section_frames)
            self._section_frames = 0
            if section is None:
                break
            try:
                self._sound_file = _open(section)
            except soundfile.LibsndfileError:
                has_failed = True
                continue
            if section.first_frame:  # a part of a FLAC stream
                has_failed = section.first_frame > expected_frame
                # The first samples of this frame may have been decoded already.
                self._start = max(self._start, self._position)
                self._position -= max(0, expected_frame - section.first_frame)
            elif format_name != "MP3" or not has_failed:
                # libFLAC fails after the last frame of a stream, too.
                has_failed = has_failed and self._position < self._header_frames < UNKNOWN_FRAMES
                self._add_stream()
            if has_failed and format_name != "OGG":
                self._note_damage()
            self._section = section
            return True
        # Whatever follows the number of frames in a header is not sound.
        is_complete = self._position >= self._header_frames
        is_sound = not is_complete and (has_failed or unread_seconds > _MAX_MISSING_SECONDS)
        if is_sound and not is_padding(self._file, self._section.file_position, self._section.end):
            self._note_damage()
        return False

    def _note_damage(self) -> None:
        if self._damaged_at is None:
            self._damaged_at = self._position / self._rate

    def _add_stream(self) -> None:
        """Take the rate of the next stream of a file and the number of frames in its header into account."""
        ratio = self._sound_file.samplerate / self._rate
        self._position = round(self._position * ratio)
        self._header_frames = round(self._header_frames * ratio) + self._sound_file.frames
        self._set_rate(self._sound_file.samplerate)

    def _warn(self) -> None:
        is_whole = self._position < self._end
        seconds, header_seconds = self._position / self._rate, self._header_frames / self._rate
        is_known = self._header_frames < UNKNOWN_FRAMES
        if self._damaged_at is not None:
            problem = f"damaged at {self._damaged_at:.2f} s; using the {seconds:.2f} s that could be decoded"
        elif is_whole and is_known and header_seconds - seconds > _MAX_MISSING_SECONDS:
            problem = f"truncated or damaged; using {seconds:.2f} s of the {header_seconds:.2f} s in its header"
        elif is_known and seconds - header_seconds > _MAX_MISSING_SECONDS:
            problem = f"longer than the {header_seconds:.2f} s in its header; using {seconds:.2f} s"
        elif is_whole and self._is_truncated:
            problem = f"truncated, its Ogg stream has no end; using {seconds:.2f} s"
        else:
            return
        self._request.warn(problem)


class _SequentialSoundFile(soundfile.SoundFile):
    """A sound file that is read from front to back.

    Otherwise soundfile seeks after each read, and an MP3 is silent after each seek.
    """

    def seekable(self) -> bool:
        return False


def _open(section: Section) -> soundfile.SoundFile:
    with _hide_mpg123_lines(section):
        return _SequentialSoundFile(section)


def _hide_mpg123_lines(section: Section) -> contextlib.AbstractContextManager[None]:
    """Keep what mpg123, the MP3 decoder in libsndfile, writes about damage off standard error."""
    return hide_native_logs(_MPG123_LINE) if section.is_mpeg else contextlib.nullcontext()
