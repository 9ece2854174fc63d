"""What libsndfile does not read (m4a, webm, video) -> blocks at their own rate, by the program `ffmpeg`."""

import re
import struct
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from typing import IO

import numpy as np

from kerastag.audio.request import FRAMES_A_READ, Request, warn

# Containers of sound. Playlists, image sequences and scripts, which make ffmpeg open other files, are not among them.
_FFMPEG_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,aac,ac3,eac3,amr,ape,wv,tta,ogg,mp3,wav,w64,flac,"
    "aiff,au,caf"
)
_AU_FLOAT32 = 6


def decode_by_ffmpeg(request: Request, ffmpeg: str, reason: str) -> Iterator[tuple[int, np.ndarray]]:
    """First audio stream -> Sun AU of 32-bit floats through a pipe: its header tells rate and channels."""
    limits = ["-protocol_whitelist", "file,pipe", "-format_whitelist", _FFMPEG_FORMATS]
    output = ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    command = [ffmpeg, "-v", "error", "-nostdin", *limits, "-i", f"file:{request.path}", *output]
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process:
            assert process.stdout is not None  # for the type checker: it is a pipe
            try:
                read = yield from _au_blocks(process.stdout, request.offset_seconds)
            finally:
                process.kill()  # who stops early does not wait for the rest; after the end this does nothing
        log_size = log.tell()
        log.seek(0)
        complaint = log.read(10_000).decode(errors="replace").strip().splitlines() or ["no samples in it"]
    said = re.sub(r"^\[.*?\] |file:", "", complaint[0]).replace(str(request.path), request.name)
    if not read:
        raise ValueError(
            f"{request.name}: must be audio with at least one sample. Received: content that neither libsndfile "
            f"({reason}) nor ffmpeg ({said}) can decode"
        )
    if log_size:
        warn(request.name, f"damaged, ffmpeg says: {said}; the samples")


def _au_blocks(pipe: IO[bytes], offset_seconds: float) -> Generator[tuple[int, np.ndarray], None, bool]:
    """Yield (sample rate, (frames, channels)) from the offset on; return whether there was any sample at all."""
    header = pipe.read(24)
    if len(header) < 24:
        return False
    magic, data_start, _, encoding, rate, channels = struct.unpack(">4s5I", header)
    if magic != b".snd" or encoding != _AU_FLOAT32 or not channels:
        return False
    pipe.read(data_start - 24)
    skip, any_read = round(offset_seconds * rate), False
    frame_bytes = 4 * channels
    while data := pipe.read(FRAMES_A_READ * frame_bytes):
        whole = data[: len(data) - len(data) % frame_bytes]
        block = np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, channels)
        any_read = any_read or len(block) > 0
        dropped = min(skip, len(block))
        skip -= dropped
        if len(block) > dropped:
            yield rate, block[dropped:]
    return any_read
