"""Tag recordings of any length with a model of any format."""

from kerastag.tagger.plot import check_plot_path, compute_log_mel_overview, plot_timeline
from kerastag.tagger.presets import PRESETS, fetch_model
from kerastag.tagger.results import POOLINGS, Tag, Timeline
from kerastag.tagger.tagger import Tagger
from kerastag.tagger.windows import Window

__all__ = [
    "POOLINGS",
    "PRESETS",
    "Tag",
    "Tagger",
    "Timeline",
    "Window",
    "check_plot_path",
    "compute_log_mel_overview",
    "fetch_model",
    "plot_timeline",
]
