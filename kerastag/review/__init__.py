"""A local page on which a person answers questions about seconds of sound, and a head that is trained on the answers.

>>> from kerastag.review import ReviewConfig
>>> ReviewConfig(run="runs/dogs", recordings=("garden",)).window_seconds
5
"""

from kerastag._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {"config": ("ReviewConfig",), "server": ("run_review",), "session": ("ReviewSession", "open_review")},
)
