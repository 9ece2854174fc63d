"""Taggers of the user's own sounds, trained on top of a pretrained backbone.

>>> from kerastag.custom import CustomConfig
>>> CustomConfig(audio_dir="recordings").model
'mn04_as'
"""

from kerastag._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {"config": ("CustomConfig",), "report": ("evaluate_custom_run",), "run": ("train_custom_tagger",)},
)
