"""Metrics of a tagger: of clips, of events, and of the sub-clips that it selects.

Importing the package loads no framework: `MeanAveragePrecision` and `DPrime`, which are Keras metrics, import Keras
when they are first used.
"""

from typing import TYPE_CHECKING, Any

from kerastag.metrics.bootstrap import bootstrap_average_precision, draw_bootstrap_counts
from kerastag.metrics.classification import Metrics, compute_d_prime, compute_metrics, format_class_report
from kerastag.metrics.event_table import EventTable, read_events
from kerastag.metrics.f1 import F1Scores, compute_event_f1, compute_segment_f1, tune_thresholds
from kerastag.metrics.intervals import compute_count_interval, compute_median_interval, compute_share_interval
from kerastag.metrics.localization import (
    LocalizationReport,
    LocalizationScores,
    compute_chance_localization,
    compute_localization,
    find_peaks,
)
from kerastag.metrics.psds import PSDS_1, PSDS_2, PsdsScenario, compute_psds

if TYPE_CHECKING:
    from kerastag.metrics.keras_metrics import DPrime, MeanAveragePrecision

__all__ = [
    "PSDS_1",
    "PSDS_2",
    "DPrime",
    "EventTable",
    "F1Scores",
    "LocalizationReport",
    "LocalizationScores",
    "MeanAveragePrecision",
    "Metrics",
    "PsdsScenario",
    "bootstrap_average_precision",
    "compute_chance_localization",
    "compute_count_interval",
    "compute_d_prime",
    "compute_event_f1",
    "compute_localization",
    "compute_median_interval",
    "compute_metrics",
    "compute_psds",
    "compute_segment_f1",
    "compute_share_interval",
    "draw_bootstrap_counts",
    "find_peaks",
    "format_class_report",
    "read_events",
    "tune_thresholds",
]


def __getattr__(name: str) -> Any:
    if name in ("DPrime", "MeanAveragePrecision"):
        from kerastag.metrics import keras_metrics

        return getattr(keras_metrics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
