"""The results of a run: thresholds, metrics by class, confusions, and the tables for people."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.card import Card
from kerastag.custom.clips import Clips, read_windows
from kerastag.custom.comparison import compare_runs
from kerastag.custom.concerns import list_concerns
from kerastag.custom.config import CustomConfig
from kerastag.custom.confusions import count_confusions, find_most_confused
from kerastag.custom.exported import find_exported
from kerastag.custom.run_inputs import load_run_clips
from kerastag.custom.tagger import predict_windows
from kerastag.data.audio_lists import report_skipped
from kerastag.files import format_csv
from kerastag.markdown import format_table
from kerastag.metrics.classification import Metrics, compute_metrics
from kerastag.models.loading import load_model
from kerastag.training.report import METRIC_NAMES, format_metrics_row
from kerastag.training.run_folder import RunFolder

__all__ = [
    "evaluate_custom_run",
    "format_results",
    "save_results",
    "select_thresholds",
]

_CANDIDATES = np.linspace(0.02, 0.98, 97)


def evaluate_custom_run(path: str | Path) -> Metrics:
    """Evaluate the tagger of a finished run on the recordings that it was trained on, and print its metrics.

    The metrics of the cross-validation, which say more about new recordings, are printed too.

    Args:
        path: Run folder.

    Returns:
        Metrics on the recordings that the tagger was trained on.

    Raises:
        FileNotFoundError: There is no such run, it is not finished, or its recordings do not exist.
        ValueError: A file of the run is damaged, or its recordings have other classes now.
    """
    folder = RunFolder.open(path)
    saved_metrics = folder.metrics()
    config = folder.read_config(CustomConfig)
    card = Card.read(folder.model_path)
    clips = load_run_clips(replace(config, folds=0), card.sample_rate)  # all recordings, whatever their folds
    clips = clips.select(clips.recordings)
    names = card.labels.names if card.labels else ()
    if clips.class_names != names[: len(clips.class_names)]:  # With `keep_base`, those of the backbone follow.
        raise ValueError(
            f"{clips.source}: must have the classes of {folder.path}, {', '.join(names)}; received: "
            f"{', '.join(clips.class_names)}"
        )
    predictions, rows = _predict_readable(load_model(folder.model_path), clips, config, card.sample_rate)
    targets = clips.targets[rows]
    present = np.flatnonzero(targets.any(axis=0))
    columns = [names.index(clips.class_names[k]) for k in present]
    metrics = compute_metrics(targets[:, present], predictions[:, columns])
    saved_name = "cross-validation, at the end of the run" if saved_metrics["folds"] else "at the end of the run"
    table = [
        format_metrics_row("model.keras, on the clips that it was trained on", metrics),
        format_metrics_row(saved_name, saved_metrics["metrics"]),
    ]
    print(format_table((f"{len(rows)} clips, {len(present)} classes", *METRIC_NAMES), table))
    print("\nmodel.keras was trained on these clips: the metrics of new recordings are those of a cross-validation")
    if folder.report_path.is_file():
        print(f"report: {folder.report_path}")
    print(f"run folder: {folder.path}\n{metrics.format_line()}")
    return metrics


def select_thresholds(y_true: np.ndarray, y_score: np.ndarray) -> tuple[float, ...]:
    """Select the threshold of every class that has the best F1; of several, the middle one.

    Thresholds are in [0.02, 0.98]; that of a class without a positive clip is 0.5.

    >>> select_thresholds(np.array([[True], [True], [False]]), np.array([[0.9], [0.8], [0.2]]))
    (0.51,)
    """
    thresholds = []
    for is_positive, scores in zip(y_true.T, y_score.T, strict=True):
        is_predicted = scores[:, None] >= _CANDIDATES  # (clips, candidates)
        hits = (is_predicted & is_positive[:, None]).sum(axis=0)
        f1 = 2 * hits / np.maximum(1, is_predicted.sum(axis=0) + is_positive.sum())
        best = np.flatnonzero(f1 == f1.max())  # all of them without a positive clip
        thresholds.append(round(float(_CANDIDATES[best[len(best) // 2]]), 2))
    return tuple(thresholds)


def save_results(
    folder: RunFolder,
    config: CustomConfig,
    clips: Clips,
    probabilities: np.ndarray,
    thresholds: Sequence[float],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the results of a run into its folder and return the content of `metrics.json`.

    `probabilities` are those of the recordings, `(seeds, recordings, classes)`. `results` are JSON values: `kinds`,
    `folds`, `logistic`, `errors`, `num_long`, `embedding_seconds` and `seconds`.
    """
    y_true = np.tile(clips.targets[clips.recordings], (len(probabilities), 1))
    y_score = probabilities.reshape(len(y_true), -1)
    present = np.flatnonzero(y_true.any(axis=0))
    names = [clips.class_names[k] for k in present]
    metrics = compute_metrics(y_true[:, present], y_score[:, present], names)
    content = {
        **results,
        "metrics": metrics.as_dict(),
        "classes": list(clips.class_names),
        "thresholds": list(thresholds),
        "missing": list(clips.missing),
    }
    is_predicted = y_score >= np.array(thresholds)
    hits, positives, predicted = (array.sum(axis=0) for array in (is_predicted & y_true, y_true, is_predicted))
    classes = [
        (
            clips.class_names[k],
            positives[k],
            f"{average_precision:.4f}",
            thresholds[k],
            f"{hits[k] / max(1, predicted[k]):.4f}",
            f"{hits[k] / positives[k]:.4f}",
        )
        for k, average_precision in zip(present.tolist(), metrics.average_precision, strict=True)
    ]
    counts = count_confusions(y_true, y_score)
    confusions = [(name, *row) for name, row in zip(clips.class_names, counts.tolist(), strict=True)]
    lines = [*_format_scores(config, clips, content), "", *find_most_confused(counts, clips.class_names)]
    folder.save_metrics(
        content,
        classes=format_csv([("class", "clips", "average_precision", "threshold", "precision", "recall"), *classes]),
        table="\n".join(lines) + "\n",
        confusion_csv=format_csv([("", *clips.class_names), *confusions]),
    )
    return content


def format_results(folder: RunFolder) -> str:
    """Format the results of a finished run: its tables, where its files are, and one line of metrics at the end."""
    content = folder.metrics()
    metrics = Metrics.from_dict(content["metrics"])
    tables = [folder.read_text("table.md"), folder.read_text("classes.csv")]
    if folder.config.get("deploy"):
        lines = [*tables, *_format_deployment(folder, content)]
    else:
        parts = f"to `kerastag export`, then to stream: --model {folder.embedder_path} --head {folder.head_path}"
        lines = [*tables, parts]
    if previous := folder.config.get("compare_with"):
        lines = [*lines, "", compare_runs(RunFolder.open(previous), folder), ""]
    return "\n".join([*lines, f"run folder: {folder.path}", metrics.format_line()])


def _format_deployment(folder: RunFolder, content: Mapping[str, Any]) -> list[str]:
    """Format alarms in simulated streams, what to worry about, and the command that streams the tagger."""
    lines = []
    if alarms := content.get("alarms"):
        rows = [
            (
                row["name"],
                f"{row['threshold']:.3f}",
                "{:.1f} ({:.1f} to {:.1f})".format(row["per_day"], *row["per_day_interval"]),
                f"{row['num_found']} of {row['num_events']}" if row["num_events"] else "-",
                "-" if row["delay_seconds"] is None else f"{row['delay_seconds']:.1f} s",
            )
            for row in alarms
        ]
        header = ("class", "threshold", "false alarms per day (95 %)", "events detected", "delay")
        lines += [format_table(header, rows), ""]
    if concerns := list_concerns(folder):
        lines += ["to worry about:", *(f"- {concern}" for concern in concerns), ""]
    exported = find_exported(folder)
    command = ["kerastag", "stream", "--model", str(exported.embedder)]
    if exported.head is not None:
        command += ["--head", str(exported.head)]
    lines += [f"report: {folder.report_path}", f"to stream: {shlex.join([*command, '--source', 'mic'])}"]
    return lines


def _predict_readable(
    tagger: Any, clips: Clips, config: CustomConfig, sample_rate: int
) -> tuple[np.ndarray, list[int]]:
    """Predict the clips that can be read, return their row numbers too, and name the others on standard error."""
    predictions, rows, errors = [], [], []
    for row, clip in enumerate(clips.audio):
        windows = read_windows(clip, sample_rate, config.max_seconds, parse_channel(config.channel))
        try:
            predictions.append(predict_windows(tagger, windows))
            rows.append(row)
        except (ValueError, OSError) as error:
            errors.append(error)
    report_skipped(errors, len(clips))
    if not rows:
        raise ValueError(f"{clips.source}: none of {len(clips)} recordings can be read: {errors[0]}")
    return np.stack(predictions), rows


def _format_scores(config: CustomConfig, clips: Clips, content: Mapping[str, Any]) -> list[str]:
    rows = clips.recordings
    summary = (
        f"{len(rows)} clips, {int(clips.targets[rows].any(axis=0).sum())} classes; "
        f"embeddings {content['embedding_seconds']:.0f} s, in all {content['seconds']:.0f} s"
    )
    if content["num_long"]:
        whole = "each of them whole, as one bag"
        summary += f"; {content['num_long']} recordings longer than {config.max_seconds:g} s, {whole}"
    scores = content["folds"]
    if not scores:
        return [summary, "", "no cross-validation: these metrics are of the clips that the tagger was trained on"]
    name = f"head, backbone {'fine-tuned' if config.fine_tune else 'frozen'}"
    fold_names = (f"fold {number + 1}" for number in range(len(scores[0])))
    header = ("accuracy" if clips.has_single_labels else "mAP", *fold_names, "mean")
    rows_of_scores = {f"{name}, seed {seed}": row for seed, row in zip(config.seeds, scores, strict=True)}
    rows_of_scores[f"{name}, mean of {len(scores)}"] = np.mean(scores, axis=0)
    if content["logistic"]:
        rows_of_scores["logistic regression on whole-clip embeddings"] = content["logistic"]
    table = [(title, *(f"{s:.4f}" for s in (*row, np.mean(row)))) for title, row in rows_of_scores.items()]
    return [summary, "", format_table(header, [*table, ("segments of a bag", *content["kinds"], "")])]
