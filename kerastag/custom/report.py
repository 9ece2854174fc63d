"""The results of a run: thresholds, metrics by class, confusions, and the table for people."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kerastag.custom.clips import Clips
from kerastag.custom.config import CustomConfig
from kerastag.markdown import format_table
from kerastag.metrics.classification import Metrics, compute_metrics
from kerastag.training.run_folder import RunFolder

__all__ = [
    "count_confusions",
    "find_most_confused",
    "format_class_table",
    "format_results",
    "save_results",
    "select_thresholds",
]

_CANDIDATES = np.linspace(0.02, 0.98, 97)


def select_thresholds(y_true: np.ndarray, y_score: np.ndarray) -> tuple[float, ...]:
    """Select the threshold of every class that has the best F1; of several, the middle one.

    Args:
        y_true: Labels, bool `(clips, classes)`.
        y_score: Probabilities `(clips, classes)` of clips that were held out.

    Returns:
        Thresholds in [0.02, 0.98]; 0.5 for a class without a positive clip.

    >>> select_thresholds(np.array([[1], [1], [0]]), np.array([[0.9], [0.8], [0.2]]))
    (0.51,)
    """
    thresholds = []
    for is_positive, scores in zip(np.asarray(y_true, bool).T, y_score.T, strict=True):
        is_predicted = scores[:, None] >= _CANDIDATES  # (clips, candidates)
        hits = (is_predicted & is_positive[:, None]).sum(axis=0)
        f1 = 2 * hits / np.maximum(1, is_predicted.sum(axis=0) + is_positive.sum())
        best = np.flatnonzero(f1 == f1.max()) if is_positive.any() else np.array([len(_CANDIDATES) // 2])
        thresholds.append(round(float(_CANDIDATES[best[len(best) // 2]]), 2))
    return tuple(thresholds)


def count_confusions(y_true: np.ndarray, y_score: np.ndarray) -> np.ndarray:
    """Count for each class what its clips were predicted as.

    A clip is predicted as its most probable class. A clip with several labels is right if that is any of them.

    Args:
        y_true: Labels, bool `(clips, classes)`.
        y_score: Probabilities `(clips, classes)`.

    Returns:
        Number of clips of the row's class that were predicted as the column's, int `(classes, classes)`.

    >>> count_confusions(np.eye(2, dtype=bool), np.array([[0.9, 0.1], [0.8, 0.2]])).tolist()
    [[1, 0], [1, 0]]
    """
    y_true = np.asarray(y_true, bool)
    counts = np.zeros((y_true.shape[1], y_true.shape[1]), int)
    for labels, predicted in zip(y_true, y_score.argmax(axis=1), strict=True):
        for k in [predicted] if labels[predicted] else np.flatnonzero(labels):
            counts[k, predicted] += 1
    return counts


def find_most_confused(counts: np.ndarray, class_names: Sequence[str], max_pairs: int = 8) -> list[str]:
    """Describe the pairs of classes that are confused most often, one line each.

    Args:
        counts: Result of `count_confusions`.
        class_names: Names of the classes.
        max_pairs: Maximum number of lines.
    """
    errors = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-errors, axis=None, kind="stable")[:max_pairs]
    pairs = [divmod(int(i), len(counts)) for i in order]
    return [
        f"{class_names[k]} predicted as {class_names[j]}: {errors[k, j]} of {counts[k].sum()}"
        for k, j in pairs
        if errors[k, j]
    ]


def format_class_table(
    y_true: np.ndarray, y_score: np.ndarray, thresholds: Sequence[float], class_names: Sequence[str], metrics: Metrics
) -> str:
    """Format the metrics of every class at its threshold as CSV."""
    y_true = np.asarray(y_true, bool)
    is_predicted = y_score >= np.array(thresholds)
    hits, positives, predicted = (array.sum(axis=0) for array in (is_predicted & y_true, y_true, is_predicted))
    rows = [
        (
            name,
            positives[k],
            f"{metrics.average_precision[k]:.4f}",
            thresholds[k],
            f"{hits[k] / max(1, predicted[k]):.4f}",
            f"{hits[k] / max(1, positives[k]):.4f}",
        )
        for k, name in enumerate(class_names)
    ]
    return _format_csv([("class", "clips", "average_precision", "threshold", "precision", "recall"), *rows])


def save_results(
    folder: RunFolder,
    config: CustomConfig,
    clips: Clips,
    probabilities: np.ndarray,
    thresholds: Sequence[float],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the results of a run into its folder and return the content of `metrics.json`.

    Args:
        folder: Folder of the run.
        config: Configuration of the run.
        clips: Clips of the run.
        probabilities: Predictions of the recordings, `(seeds, recordings, classes)`.
        thresholds: Threshold of every class.
        results: JSON values: `kinds`, `folds`, `logistic`, `errors`, `embedding_seconds` and `seconds`.
    """
    y_true = np.tile(clips.targets[clips.recordings], (len(probabilities), 1))
    y_score = probabilities.reshape(-1, probabilities.shape[-1])
    present = np.flatnonzero(y_true.any(axis=0))
    names = [clips.class_names[k] for k in present]
    metrics = compute_metrics(y_true[:, present], y_score[:, present], names)
    counts = count_confusions(y_true, y_score)
    classes = format_class_table(
        y_true[:, present], y_score[:, present], [thresholds[int(k)] for k in present], names, metrics
    )
    content = {
        **results,
        "metrics": metrics.as_dict(),
        "classes": list(clips.class_names),
        "thresholds": list(thresholds),
        "missing": list(clips.missing),
    }
    lines = [*_format_scores(config, clips, content), "", *find_most_confused(counts, clips.class_names)]
    rows = [(name, *row) for name, row in zip(clips.class_names, counts.tolist(), strict=True)]
    confusion = _format_csv([("", *clips.class_names), *rows])
    folder.save_metrics(content, classes=classes, table="\n".join(lines) + "\n", confusion_csv=confusion)
    return content


def format_results(folder: RunFolder) -> str:
    """Format the results of a finished run: its tables, where its files are, and one line of metrics at the end."""
    if folder.head_path.is_file():
        parts = f"to `kerastag export`, then to stream: --model {folder.embedder_path} --head {folder.head_path}"
    else:
        parts = "`--segments seconds` saves the two parts that `kerastag stream --model EMBEDDER --head HEAD` takes"
    metrics = Metrics.from_dict(folder.metrics()["metrics"])
    tables = [folder.read_text("table.md"), folder.read_text("classes.csv")]
    return "\n".join([*tables, parts, f"run folder: {folder.path}", metrics.format_line()])


def _format_scores(config: CustomConfig, clips: Clips, content: Mapping[str, Any]) -> list[str]:
    rows = clips.recordings
    summary = (
        f"{len(rows)} clips, {int(clips.targets[rows].any(axis=0).sum())} classes; "
        f"embeddings {content['embedding_seconds']:.0f} s, in all {content['seconds']:.0f} s"
    )
    if not content["folds"]:
        return [summary, "", "no cross-validation: these metrics are of the clips that the tagger was trained on"]
    name = f"attention head, backbone {'fine-tuned' if config.fine_tune else 'frozen'}"
    numbers = range(1, len(content["kinds"]) + 1)
    header = ("accuracy" if clips.has_single_labels else "mAP", *(f"fold {number}" for number in numbers), "mean")
    table = [
        *(_score_row(f"{name}, seed {seed}", s) for seed, s in zip(config.seeds, content["folds"], strict=True)),
        _score_row(f"{name}, mean of {len(config.seeds)}", np.mean(content["folds"], axis=0)),
    ]
    if content["logistic"]:
        table.append(_score_row("logistic regression on whole-clip embeddings", content["logistic"]))
    table.append(("segments of a bag", *content["kinds"], ""))
    return [summary, "", format_table(header, table)]


def _score_row(name: str, scores: Sequence[float] | np.ndarray) -> tuple[str, ...]:
    return (name, *(f"{score:.4f}" for score in scores), f"{np.mean(scores):.4f}")


def _format_csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
