"""When, not only what: events against a truth, framewise probabilities against it, windows against it."""

from kerastag.detection.event_table import EventTable, read_events
from kerastag.detection.f1 import F1Figures, event_f1, segment_f1
from kerastag.detection.localisation import Localisation, localisation, peaks, window_chance
from kerastag.detection.psds import PSDS_1, PSDS_2, PsdsRules, psds
from kerastag.detection.thresholds import tune_thresholds

__all__ = [
    "PSDS_1",
    "PSDS_2",
    "EventTable",
    "F1Figures",
    "Localisation",
    "PsdsRules",
    "event_f1",
    "localisation",
    "peaks",
    "psds",
    "read_events",
    "segment_f1",
    "tune_thresholds",
    "window_chance",
]
