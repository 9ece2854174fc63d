"""Audio files of any format as mono waveforms at a chosen sample rate.

libsndfile decodes WAV, FLAC, Ogg (Vorbis and Opus), MP3 and more. Where the `ffmpeg` program is installed, it decodes
the rest (m4a, webm, video). The content of a file decides which of them decodes it, not its extension. Channels are
averaged, or one is chosen, and soxr resamples.
"""

from kerastag.audio.formats import AUDIO_EXTENSIONS, find_audio_files, resolve_listed_path
from kerastag.audio.levels import MAX_PEAK, Levels, measure_levels
from kerastag.audio.reading import AudioWindow, NamedPath, load, read_blocks, read_stream, read_windows, spool_stream
from kerastag.audio.request import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioWarning, UnsupportedAudioError

__all__ = [
    "AUDIO_EXTENSIONS",
    "MAX_PEAK",
    "MAX_SAMPLE_RATE",
    "MIN_SAMPLE_RATE",
    "AudioWarning",
    "AudioWindow",
    "Levels",
    "NamedPath",
    "UnsupportedAudioError",
    "find_audio_files",
    "load",
    "measure_levels",
    "read_blocks",
    "read_stream",
    "read_windows",
    "resolve_listed_path",
    "spool_stream",
]
