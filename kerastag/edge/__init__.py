"""The streaming tagger for small devices: NumPy and a LiteRT interpreter, nothing else.

The public names are imported when they are first used; an interpreter is loaded with the first model.

>>> from kerastag.edge import StreamingTagger
>>> StreamingTagger("sounds.tflite")
Traceback (most recent call last):
FileNotFoundError: sounds.tflite: no such model
"""

from kerastag._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "blocks": ("Block", "BoundedAudioQueue"),
        "clock": ("read_clock",),
        "config": ("StreamConfig", "load_stream_config"),
        "runtime": ("LiteRTModel",),
        "service": ("run_stream",),
        "stats": ("StreamStats",),
        "streaming": ("StreamingResult", "StreamingTagger"),
    },
)
