"""The streaming tagger of a small device: NumPy and a LiteRT interpreter, nothing else.

Importing it loads no interpreter; the first model does.

>>> from kerastag.edge import StreamingTagger
>>> StreamingTagger("sounds.tflite")
Traceback (most recent call last):
FileNotFoundError: sounds.tflite: there is no such model
"""

from kerastag.edge.blocks import Block, now
from kerastag.edge.queue import BoundedAudioQueue
from kerastag.edge.runtime import LiteRTModel
from kerastag.edge.stats import Stats
from kerastag.edge.streaming import Result, StreamingTagger

__all__ = ["Block", "BoundedAudioQueue", "LiteRTModel", "Result", "Stats", "StreamingTagger", "now"]
