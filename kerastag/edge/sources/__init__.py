"""Sources of a stream: a microphone, a recording, standard input, or a URL that ffmpeg opens."""

from kerastag.edge.sources.pcm import PcmFormat
from kerastag.edge.sources.source import Source, is_microphone, open_source

__all__ = ["PcmFormat", "Source", "is_microphone", "open_source"]
