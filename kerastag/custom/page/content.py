"""What the page of a run shows, computed from its saved results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.custom.confusions import count_confusions
from kerastag.custom.label_errors import LabelError, find_label_errors
from kerastag.custom.learning_curve import estimate_gains
from kerastag.custom.look_alikes import rank_look_alikes
from kerastag.custom.page.charts import compute_calibration, place_points
from kerastag.custom.page.players import make_relative_url
from kerastag.custom.predictions import RunPredictions
from kerastag.metrics.intervals import compute_count_interval, compute_share_interval

__all__ = ["CHART_SIZE", "prepare_content"]

CHART_SIZE = (320, 240)
"""Width and height of the area of a chart."""

_MAX_LABEL_ERRORS, _MAX_CONFUSIONS, _MAX_LOOK_ALIKES, _MAX_SKIPPED = 30, 10, 8, 200
_CLIPS_PER_CONFUSION = 3
_MAX_MATRIX_CLASSES, _MAX_CONCERNS = 60, 20
_LEAD_SECONDS = 0.5


class _Clips:
    """Descriptions of the recordings of a run for its page, in a folder."""

    def __init__(self, predictions: RunPredictions, class_names: tuple[str, ...], folder: Path) -> None:
        self.predictions, self.class_names, self.folder = predictions, class_names, folder

    def describe(self, row: int, class_index: int | None = None) -> dict[str, Any]:
        """Describe a recording, with a player that starts where a class is most probable."""
        predictions = self.predictions
        peak = 0.0 if class_index is None else float(predictions.peak_seconds[row, class_index])
        start = float(predictions.start_seconds[row]) + max(0.0, np.nan_to_num(peak) - _LEAD_SECONDS)
        path = str(predictions.paths[row])
        return {
            "name": str(predictions.names[row]),
            "labels": [self.class_names[k] for k in np.flatnonzero(predictions.targets[row])],
            "url": make_relative_url(path, self.folder, start) if path else "",
            "seconds": start,
        }


def prepare_content(
    predictions: RunPredictions, metrics: Mapping[str, Any], class_rows: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Prepare what the page of a run shows.

    Args:
        predictions: Predictions of the recordings.
        metrics: Content of `metrics.json`.
        class_rows: Rows of `classes.csv` by the names of its columns.
        folder: Run folder, which the addresses of recordings are relative to.

    Returns:
        Values for the template, by the name of their section.
    """
    names = tuple(metrics["classes"])
    clips = _Clips(predictions, names, folder)
    is_held_out = bool(metrics["folds"])
    counts = count_confusions(predictions.targets, predictions.mean_probabilities)
    content = {
        "is_held_out": is_held_out,
        "num_folds": len(metrics["folds"][0]) if is_held_out else 0,
        "num_seeds": len(predictions.probabilities),
        "metrics": metrics["metrics"],
        "num_clips": len(predictions),
        "accuracy": _compute_accuracy(predictions),
        "classes": _prepare_classes(class_rows, predictions, names),
        "alarms": _prepare_alarms(metrics.get("alarms")),
        "matrix": _prepare_matrix(counts, names),
        "confusions": _prepare_confusions(counts, clips),
        "label_errors": _prepare_label_errors(clips) if is_held_out else {"count": 0, "clips": []},
        "look_alikes": _prepare_look_alikes(clips),
        "learning": _prepare_learning_curve(metrics.get("learning_curve"), names),
        "calibration": _prepare_calibration(predictions),
        "skipped": [*metrics.get("errors", ()), *(f"{name}: no such file" for name in metrics.get("missing", ()))],
    }
    content["weakest"] = min(content["classes"], key=lambda row: row["average_precision"], default=None)
    return content | {"max_skipped": _MAX_SKIPPED, "max_concerns": _MAX_CONCERNS}


def _compute_accuracy(predictions: RunPredictions) -> dict[str, Any] | None:
    """Compute the share of recordings whose most probable class is their label; None if any has several or none."""
    if not (predictions.targets.sum(axis=1) == 1).all():
        return None
    predicted = predictions.mean_probabilities.argmax(axis=1)
    hits = int(predictions.targets[np.arange(len(predictions)), predicted].sum())
    total = len(predictions)
    return {"hits": hits, "total": total, "share": hits / total, "interval": compute_share_interval(hits, total)}


def _prepare_classes(
    class_rows: list[dict[str, Any]], predictions: RunPredictions, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    counts = dict(zip(names, predictions.targets.sum(axis=0).tolist(), strict=True))
    return [
        {
            "name": row["class"],
            "clips": counts.get(row["class"], 0),
            **{key: float(row[key]) for key in ("average_precision", "threshold", "precision", "recall")},
        }
        for row in class_rows
    ]


def _prepare_alarms(alarms: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    """Prepare the alarms of each class in simulated streams, and the false alarms of all classes."""
    if not alarms:
        return None
    count, days = sum(row["false_alarms"] for row in alarms), alarms[0]["hours"] / 24
    low, high = (limit / days for limit in compute_count_interval(count))
    return {
        "classes": {row["name"]: row for row in alarms},
        "hours": alarms[0]["hours"],
        "per_day": count / days,
        "per_day_interval": (low, high),
    }


def _prepare_matrix(counts: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Prepare the confusions of the classes that occur, or of those that are confused most if there are too many."""
    totals, errors = counts.sum(axis=1), counts * ~np.eye(len(counts), dtype=bool)
    confused = errors.sum(axis=0) + errors.sum(axis=1)
    present = np.flatnonzero((totals > 0) | (confused > 0))
    classes = present
    if len(present) > _MAX_MATRIX_CLASSES:
        classes = np.sort(present[np.argsort(-confused[present], kind="stable")[:_MAX_MATRIX_CLASSES]])
    rows = []
    for k in classes:
        shares = counts[k, classes] / max(1, totals[k])
        levels = np.ceil(10 * shares).astype(int).tolist()  # 0 only for none at all
        rows.append({"name": names[k], "cells": list(zip(counts[k, classes].tolist(), levels, strict=True))})
    return {"rows": rows, "num_hidden": len(present) - len(classes)}


def _prepare_confusions(counts: np.ndarray, clips: _Clips) -> list[dict[str, Any]]:
    predictions = clips.predictions
    errors, predicted = counts * ~np.eye(len(counts), dtype=bool), predictions.mean_probabilities.argmax(axis=1)
    confusions = []
    for index in np.argsort(-errors, axis=None, kind="stable")[:_MAX_CONFUSIONS].tolist():
        k, j = divmod(index, len(counts))
        if not errors[k, j]:
            break
        rows = np.flatnonzero(predictions.targets[:, k] & ~predictions.targets[:, j] & (predicted == j))
        rows = rows[np.argsort(-predictions.mean_probabilities[rows, j], kind="stable")]
        confusions.append(
            {
                "label": clips.class_names[k],
                "predicted": clips.class_names[j],
                "count": int(errors[k, j]),
                "total": int(counts[k].sum()),
                "clips": [clips.describe(row, j) for row in rows[:_CLIPS_PER_CONFUSION].tolist()],
            }
        )
    return confusions


def _prepare_label_errors(clips: _Clips) -> dict[str, Any]:
    probabilities = clips.predictions.mean_probabilities

    def describe(error: LabelError) -> dict[str, Any]:
        values = {"label": error.label, "suggestion": error.suggestion}
        shown = error.label if error.suggestion is None else error.suggestion
        return {
            **clips.describe(error.row, shown),
            **{key: None if k is None else clips.class_names[k] for key, k in values.items()},
            **{f"{key}_probability": None if k is None else probabilities[error.row, k] for key, k in values.items()},
        }

    errors = find_label_errors(clips.predictions.targets, probabilities)
    return {"count": len(errors), "clips": [describe(error) for error in errors[:_MAX_LABEL_ERRORS]]}


def _prepare_look_alikes(clips: _Clips) -> list[dict[str, Any]]:
    predictions = clips.predictions
    return [
        {
            "classes": [clips.class_names[k] for k in each.classes],
            "count": each.count,
            "total": each.total,
            "pairs": [(clips.describe(row), clips.describe(neighbor)) for row, neighbor in each.pairs],
        }
        for each in rank_look_alikes(predictions.neighbors, predictions.targets, max_pairs=2)[:_MAX_LOOK_ALIKES]
    ]


def _prepare_learning_curve(curve: Mapping[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any] | None:
    if not curve:
        return None
    points = []
    for point in curve["points"]:
        precision = np.array(point["average_precision"], float)
        is_measured = ~np.isnan(precision).all(axis=0)
        clips = np.array(point["clips"])[is_measured]
        points.append({"share": point["share"], "clips": clips.mean(), "map": np.nanmean(precision)})
    gains = [{**gain, "name": names[gain["class"]]} for gain in estimate_gains(dict(curve))]
    x, y = [np.log2(point["clips"]) for point in points], [point["map"] for point in points]
    return {"points": points, "places": place_points(x, y, *CHART_SIZE), "gains": gains, "num_folds": curve["folds"]}


def _prepare_calibration(predictions: RunPredictions) -> dict[str, Any]:
    bins = compute_calibration(predictions.targets, predictions.mean_probabilities)
    width, height = CHART_SIZE
    total = sum(each["count"] for each in bins)
    gap = sum(each["count"] * abs(each["present"] - each["predicted"]) for each in bins) / max(1, total)
    for each in bins:
        each["x"], each["y"] = round(width * each["predicted"], 1), round(height * (1 - each["present"]), 1)
        each["limits"] = [round(height * (1 - limit), 1) for limit in each["interval"]]
    return {"bins": bins, "error": gap}
