"""The results of a run: what its files hold, and the table for people."""

import math
import sys
from collections.abc import Mapping
from typing import Any

from kerastag.markdown import format_table
from kerastag.metrics.classification import Metrics, format_class_report, format_d_prime
from kerastag.metrics.localization import LocalizationReport
from kerastag.training.outputs import STREAMS
from kerastag.training.run_data import RunData
from kerastag.training.run_folder import RunFolder

__all__ = ["format_localization", "format_metrics", "format_metrics_row", "run_metrics", "save_results"]

METRIC_NAMES = ("mAP", "mAUC", "d-prime")


def run_metrics(data: RunData, results: Mapping[str, Any]) -> dict[str, Any]:
    """Combine the results of a run and a description of its clips to the content of `metrics.json`.

    Args:
        data: Clips of the run.
        results: `Metrics` and JSON values by name; `ensemble` is what the run is judged by.
    """
    return {
        **{name: value.as_dict() if isinstance(value, Metrics) else value for name, value in results.items()},
        "evaluated": data.evaluated,
        "class_counts": data.class_counts,
        "labels_per_clip": data.labels_per_clip,
        "labels": {"mids": list(data.labels.mids), "names": list(data.labels.names)},
    }


def save_results(folder: RunFolder, data: RunData, results: Mapping[str, Any]) -> dict[str, Any]:
    """Write the results of a run into its folder and return the content of `metrics.json`.

    Args:
        folder: Folder of the run.
        data: Clips of the run.
        results: As for `run_metrics`.
    """
    ensemble: Metrics = results["ensemble"]
    if ensemble.skipped_classes:
        names = ", ".join(data.labels.names[k] for k in ensemble.skipped_classes)
        print(f"classes without metrics, no positive clip in {data.evaluated}: {names}", file=sys.stderr)
    metrics = run_metrics(data, results)
    classes = format_class_report(ensemble, data.labels.names)
    folder.save_metrics(metrics, classes=classes, table=format_metrics(metrics) + "\n")
    return metrics


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Format the content of `metrics.json` as Markdown."""
    rows = {"scores": metrics["ensemble"]}
    if metrics.get("last"):
        averaged = metrics.get("averaged")
        rows = {
            "mean of the checkpoints' predictions": metrics["ensemble"],
            **({"mean of their weights (model.keras)": averaged} if averaged else {}),
            "last checkpoint" if averaged else "last checkpoint (model.keras)": metrics["last"],
            **{f"{name} stream alone": metrics[name] for name in STREAMS if metrics.get(name)},
        }
    table = format_table((metrics["evaluated"], *METRIC_NAMES), [format_metrics_row(n, m) for n, m in rows.items()])
    return table + format_localization(metrics)


def format_metrics_row(name: str, metrics: Mapping[str, Any] | Metrics) -> tuple[str, ...]:
    """Format the row of a table: a name, mAP, mean AUC and d-prime."""
    values = metrics.as_dict() if isinstance(metrics, Metrics) else metrics
    cells = (math.nan if values[key] is None else values[key] for key in ("map", "mauc"))
    return (name, *(f"{cell:.4f}" for cell in cells), format_d_prime(values["d_prime"]))


def format_localization(metrics: Mapping[str, Any]) -> str:
    """Format how well a two-stream model selected its sub-clips; an empty string for any other model."""
    if not metrics.get("localization"):
        return ""
    lines = LocalizationReport.from_dict(metrics["localization"]).format_table().splitlines()
    return "\n".join(["", "", "sub-clips of the classes that are present:", "", *(f"    {line}" for line in lines), ""])
