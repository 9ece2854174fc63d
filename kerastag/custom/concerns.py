"""What a user of a finished run should worry about, one line each."""

import csv
import shlex
from typing import Any

from kerastag.custom.label_errors import find_label_errors
from kerastag.custom.predictions import RunPredictions
from kerastag.training.run_folder import RunFolder

__all__ = ["list_concerns"]

_FEW_CLIPS = 10
_LOW_PRECISION = 0.8
_LOW_SHARE = 0.8


def list_concerns(folder: RunFolder) -> list[str]:
    """List what may be wrong with a finished run, the most important first.

    Raises:
        FileNotFoundError: The run is not finished.
        ValueError: A file of the run is damaged.
    """
    metrics = folder.metrics("metrics.map")
    rows = list(csv.DictReader(folder.read_text("classes.csv").splitlines()))
    clips_per_run = max(1, len(metrics["folds"]))
    concerns = []
    if not metrics["folds"]:
        concerns.append("there was no cross-validation: the figures are of clips that the tagger was trained on")
    if count := len(metrics.get("errors", ())):
        concerns.append(f"{count} recordings could not be read, and were left out")
    if count := len(metrics.get("missing", ())):
        concerns.append(f"{count} recordings of the list do not exist, the first is {metrics['missing'][0]}")
    for row in rows:
        if (count := int(row["clips"]) // clips_per_run) < _FEW_CLIPS:
            concerns.append(f"{row['class']} has {count} recordings: add some until it has at least {_FEW_CLIPS}")
        elif (precision := float(row["average_precision"])) < _LOW_PRECISION:
            concerns.append(f"{row['class']} is often confused: average precision {precision:.2f}")
    concerns += _list_alarm_concerns(metrics, folder.config)
    if metrics["folds"] and folder.report_data_path.is_file():
        predictions = RunPredictions.read(folder.report_data_path)
        if errors := find_label_errors(predictions.targets, predictions.mean_probabilities):
            command = shlex.join(["kerastag", "review", str(folder.path)])
            concerns.append(f"{len(errors)} recordings may have a wrong label: see the report, or {command}")
    return concerns


def _list_alarm_concerns(metrics: dict[str, Any], config: dict[str, Any]) -> list[str]:
    alarms, concerns = metrics.get("alarms", ()), []
    if alarms and not config.get("ambient"):
        concerns.append(
            "false alarms were counted in synthetic sounds: give hours of your own background with --ambient"
        )
    point = metrics.get("operating_point", {})
    promised = point.get("false_alarms_per_day", float("inf"))
    if promised and (num_estimated := sum(not row["is_shown"] for row in alarms)):
        concerns.append(
            f"the thresholds of {num_estimated} classes are estimates: to show {promised:g} false alarms per day takes "
            f"{point['needed_hours']:.0f} hours of background without any; there were {point['chosen_on_hours']:.1f}"
        )
    for row in alarms:
        name, share = row["name"], row["num_found"] / max(1, row["num_events"])
        if row["per_day_interval"][0] > promised:
            concerns.append(f"{name} had {row['per_day']:.1f} false alarms per day, more than {promised:g}")
        if row["num_events"] and share < _LOW_SHARE:
            concerns.append(f"{name} was detected in {100 * share:.0f}% of the simulated events")
    return concerns
