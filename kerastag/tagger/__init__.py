"""A recording -> the sounds in it: load a model of any format, tag a file or an array of any length."""

from kerastag.tagger.listening import Window
from kerastag.tagger.presets import PRESETS, model_file
from kerastag.tagger.results import POOLINGS, Tag, Timeline
from kerastag.tagger.tagger import Tagger

__all__ = ["POOLINGS", "PRESETS", "Tag", "Tagger", "Timeline", "Window", "model_file"]
