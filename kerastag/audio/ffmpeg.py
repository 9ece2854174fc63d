"""Decoding with the `ffmpeg` program, for the formats that libsndfile does not support (m4a, webm, video)."""

import math
import re
import struct
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from typing import IO

import numpy as np

from kerastag.audio.request import FRAMES_PER_READ, Request, UnsupportedAudioError

# Audio containers only: playlists, image sequences and scripts would make ffmpeg open other files.
_FFMPEG_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,aac,ac3,eac3,dts,amr,ape,wv,tta,ogg,mp3,wav,w64,"
    "flac,aiff,au,caf"
)
_AU_FLOAT32 = 6


def decode_with_ffmpeg(request: Request, ffmpeg: str, reason: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the sample rate in Hz of the first audio stream of a file, and its samples `(frames, channels)`, float32.

    ffmpeg writes a Sun AU stream of 32-bit floats to a pipe; its header has the sample rate and the number of channels.
    `reason` is why libsndfile could not decode the file, for the error message.
    """
    limits = ["-protocol_whitelist", "file,pipe", "-format_whitelist", _FFMPEG_FORMATS]
    output = ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    command = [ffmpeg, "-v", "error", "-nostdin", *limits, "-i", f"file:{request.path}", *output]
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process:
            assert process.stdout is not None  # for the type checker: it is a pipe
            try:
                has_samples = yield from _read_au_blocks(process.stdout, request)
            finally:
                process.kill()  # a caller that stops early need not wait for the rest; after the end, a no-op
        log_size = log.tell()
        log.seek(0)
        messages = log.read(10_000).decode(errors="replace").strip().splitlines() or ["no samples"]
    message = re.sub(r"^\[.*?\] |file:", "", messages[0]).replace(str(request.path), request.name)
    if lacks_audio_track(messages):
        raise UnsupportedAudioError(f"{request.name}: no audio track")
    if not has_samples:
        raise UnsupportedAudioError(
            f"{request.name}: must be audio with at least one sample; received: content that neither libsndfile "
            f"({reason}) nor ffmpeg ({message}) can decode"
        )
    if log_size:
        request.warn(f"damaged; using the samples that ffmpeg could decode ({message})")


def lacks_audio_track(messages: Iterable[str]) -> bool:
    """Return whether ffmpeg failed because what it was to decode, such as the stream of a camera, has only video."""
    return any("matches no streams" in message for message in messages)


def _read_au_blocks(pipe: IO[bytes], request: Request) -> Generator[tuple[int, np.ndarray], None, bool]:
    """Yield the sample rate and the requested `(frames, channels)`; return whether there was any sample at all."""
    header = pipe.read(24)
    if len(header) < 24:
        return False
    magic, data_start, _, encoding, sample_rate, channels = struct.unpack(">4s5I", header)
    if magic != b".snd" or encoding != _AU_FLOAT32 or not channels:
        return False
    pipe.read(data_start - 24)
    position, start = 0, round(request.offset_seconds * sample_rate)
    end = start + (request.compute_max_frames(sample_rate) or math.inf)
    frame_bytes = 4 * channels
    while position < end and (data := pipe.read(int(min(FRAMES_PER_READ, end - position)) * frame_bytes)):
        whole_frames = data[: len(data) - len(data) % frame_bytes]
        block = np.frombuffer(whole_frames, ">f4").astype(np.float32).reshape(-1, channels)
        skipped = min(len(block), max(0, start - position))
        position += len(block)
        if len(block) > skipped:
            yield sample_rate, block[skipped:]
    return position > 0
