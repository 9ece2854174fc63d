"""A file of any kind -> mono samples at its own rate. The content decides who decodes it, never the extension."""

import shutil
import stat
from collections.abc import Iterator

import numpy as np

from kerastag.audio.ffmpeg import decode_by_ffmpeg
from kerastag.audio.levels import check_samples
from kerastag.audio.libsndfile import CannotDecode, decode_by_libsndfile
from kerastag.audio.request import Request, check_rate


def native_blocks(request: Request) -> Iterator[tuple[int, np.ndarray]]:
    """(sample rate, mono samples) at the file's own rate, from the offset on, for at least the duration."""
    taken = 0
    for rate, block in _decoded(request):
        if not taken:
            check_rate(rate, f"{request.name}: its sample rate")
        wanted = request.native_frames(rate)
        block = block if wanted is None else block[: wanted - taken]
        check_samples(block, request.name, round(request.offset_seconds * rate) + taken, rate)
        taken += len(block)
        yield rate, block.mean(axis=1, dtype=np.float32)
        if taken == wanted:
            return


def _decoded(request: Request) -> Iterator[tuple[int, np.ndarray]]:
    """(sample rate, (frames, channels) float32) from the offset on, by libsndfile, or else by ffmpeg."""
    try:
        status = request.path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{request.name}: there is no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{request.name}: must be a regular file. Received: a folder, pipe or device")
    if not status.st_size:
        raise ValueError(f"{request.name}: must be audio. Received: an empty file")
    try:
        yield from decode_by_libsndfile(request)
        return
    except CannotDecode as error:
        reason = str(error)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise ValueError(
            f"{request.name}: must be audio that libsndfile reads. Received: content of which it says: {reason}. m4a, "
            "webm and video need the program ffmpeg on the PATH: install it (apt install ffmpeg, brew install ffmpeg)"
        )
    yield from decode_by_ffmpeg(request, ffmpeg, reason)
