"""The streaming tagger for small devices: NumPy and a LiteRT interpreter, nothing else.

The public names are imported when they are first used; an interpreter is loaded with the first model.

>>> from kerastag.edge import StreamingTagger
>>> StreamingTagger("sounds.tflite")
Traceback (most recent call last):
FileNotFoundError: sounds.tflite: no such model
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "Block": "blocks",
    "BoundedAudioQueue": "blocks",
    "LiteRTModel": "runtime",
    "StreamConfig": "config",
    "StreamStats": "stats",
    "StreamingResult": "streaming",
    "StreamingTagger": "streaming",
    "load_stream_config": "config",
    "read_clock": "clock",
    "run_stream": "service",
}

__all__ = [
    "Block",
    "BoundedAudioQueue",
    "LiteRTModel",
    "StreamConfig",
    "StreamStats",
    "StreamingResult",
    "StreamingTagger",
    "load_stream_config",
    "read_clock",
    "run_stream",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
