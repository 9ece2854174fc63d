"""Comparison of two runs on the user's own sounds: class by class, before and after."""

import csv
from collections.abc import Mapping
from typing import Any

from kerastag.markdown import format_table
from kerastag.training.run_folder import RunFolder

__all__ = ["compare_runs"]


def compare_runs(previous: RunFolder, current: RunFolder) -> str:
    """Format the results of two finished runs as a Markdown table, with one row for each class of either.

    Args:
        previous: Run to compare with.
        current: Run that the table is about.

    Raises:
        FileNotFoundError: A run is not finished.
        ValueError: A file of a run is damaged.
    """
    (classes_before, totals_before), (classes_after, totals_after) = map(_read_results, (previous, current))
    rows = [
        _format_row(name, classes_before.get(name, {}), classes_after.get(name, {}))
        for name in dict.fromkeys([*classes_after, *classes_before])
    ]
    rows.append(_format_row("all", totals_before, totals_after))
    header = (f"{previous.path}, then {current.path}", *(column for _, column, _ in _COLUMNS))
    lines = [format_table(header, rows)]
    if "accuracy" in totals_before and "accuracy" in totals_after:
        change = _format_change(totals_before["accuracy"], totals_after["accuracy"], 4)
        lines.append(f"accuracy, mean of the folds: {change}")
    return "\n\n".join(lines)


_COLUMNS = (
    ("clips", "clips", 0),
    ("average_precision", "average precision", 4),
    ("recall", "recall", 4),
    ("per_day", "false alarms per day", 1),
)


def _read_results(folder: RunFolder) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Read the results of each class of a run, and those of all of them."""
    metrics: dict[str, Any] = folder.metrics("metrics.map", "metrics.num_clips")
    alarms = {row["name"]: row["per_day"] for row in metrics.get("alarms", ())}
    num_seeds = max(1, len(metrics["folds"]))  # Tables count a clip once for each of them.
    classes: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(folder.read_text("classes.csv").splitlines()):
        values = {"clips": int(row["clips"]) / num_seeds}
        values |= {key: float(row[key]) for key in ("average_precision", "recall")}
        per_day = {"per_day": alarms[row["class"]]} if row["class"] in alarms else {}
        classes[row["class"]] = values | per_day
    totals = {"clips": metrics["metrics"]["num_clips"] / num_seeds, "average_precision": metrics["metrics"]["map"]}
    if alarms:
        totals["per_day"] = sum(alarms.values())
    if metrics.get("logistic") and metrics["folds"]:  # The score is an accuracy where every recording has one label.
        scores = [score for row in metrics["folds"] for score in row]
        totals["accuracy"] = sum(scores) / len(scores)
    return classes, totals


def _format_row(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> tuple[str, ...]:
    return name, *(_format_change(before.get(key), after.get(key), digits) for key, _, digits in _COLUMNS)


def _format_change(before: float | None, after: float | None, digits: int) -> str:
    texts = ["-" if value is None else f"{value:.{digits}f}" for value in (before, after)]
    if before is None or after is None:
        return " to ".join(texts)
    return f"{' to '.join(texts)} ({after - before:+.{digits}f})"
