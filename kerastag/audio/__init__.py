"""Any audio file -> float32 mono waveform at a chosen rate; windows over files of any length in constant memory.

libsndfile decodes WAV, FLAC, Ogg (Vorbis, Opus), MP3 and more; the `ffmpeg` program, where it is installed, the rest
(m4a, webm, video). The content decides, never the extension. Channels are averaged; soxr resamples.
"""

from kerastag.audio.levels import MAX_PEAK, Levels, check
from kerastag.audio.reading import blocks, load, read_stream
from kerastag.audio.request import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioWarning
from kerastag.audio.windowing import Window, windows

__all__ = [
    "MAX_PEAK",
    "MAX_SAMPLE_RATE",
    "MIN_SAMPLE_RATE",
    "AudioWarning",
    "Levels",
    "Window",
    "blocks",
    "check",
    "load",
    "read_stream",
    "windows",
]
