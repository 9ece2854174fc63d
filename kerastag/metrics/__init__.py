"""Metrics of a tagger: of clips, of events and of the sub-clips that it selects."""

from kerastag.metrics.classification import Metrics, class_report, compute_metrics, d_prime
from kerastag.metrics.event_table import EventTable, read_events
from kerastag.metrics.f1 import F1Figures, event_f1, segment_f1
from kerastag.metrics.localization import Localization, localization, peaks, window_chance
from kerastag.metrics.psds import PSDS_1, PSDS_2, PsdsRules, psds
from kerastag.metrics.thresholds import tune_thresholds

__all__ = [
    "PSDS_1",
    "PSDS_2",
    "EventTable",
    "F1Figures",
    "Localization",
    "Metrics",
    "PsdsRules",
    "class_report",
    "compute_metrics",
    "d_prime",
    "event_f1",
    "localization",
    "peaks",
    "psds",
    "read_events",
    "segment_f1",
    "tune_thresholds",
    "window_chance",
]
