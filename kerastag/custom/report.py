"""Held-out probabilities -> thresholds, a report by class, and which classes are taken for which."""

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerastag.files import write_atomically, write_json
from kerastag.metrics import Metrics, compute_metrics

if TYPE_CHECKING:
    from kerastag.custom.study import Study

_CANDIDATES = np.linspace(0.02, 0.98, 97)


def suggest_thresholds(targets: np.ndarray, probabilities: np.ndarray) -> tuple[float, ...]:
    """Held-out targets and probabilities `(clips, classes)` -> for each class, the threshold of the best F1.

    Where several give the best, the middle one. A class without a positive clip gets 0.5.

    >>> suggest_thresholds(np.array([[1], [1], [0]]), np.array([[0.9], [0.8], [0.2]]))
    (0.51,)
    """
    found = []
    for truth, scores in zip(np.asarray(targets, bool).T, probabilities.T, strict=True):
        heard = scores[:, None] >= _CANDIDATES  # (clips, candidates)
        hits = (heard & truth[:, None]).sum(axis=0)
        f1 = 2 * hits / np.maximum(1, heard.sum(axis=0) + truth.sum())
        best = np.flatnonzero(f1 == f1.max()) if truth.any() else np.array([len(_CANDIDATES) // 2])
        found.append(round(float(_CANDIDATES[best[len(best) // 2]]), 2))
    return tuple(found)


def class_table(
    targets: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float], names: Sequence[str], figures: Metrics
) -> str:
    """Figures of every class at its threshold -> CSV text."""
    targets = np.asarray(targets, bool)
    heard = probabilities >= np.array(thresholds)
    hits = (heard & targets).sum(axis=0)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["class", "clips", "average_precision", "threshold", "precision", "recall"])
    for k, name in enumerate(names):
        precision, recall = hits[k] / max(1, heard[:, k].sum()), hits[k] / max(1, targets[:, k].sum())
        figure = f"{figures.average_precision[k]:.4f}"
        writer.writerow([name, targets[:, k].sum(), figure, thresholds[k], f"{precision:.4f}", f"{recall:.4f}"])
    return out.getvalue()


def confusion(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Targets and probabilities -> `(classes, classes)` counts: clips of the row's class heard as the column's.

    A clip is heard as its most probable class; one with several labels as right where that is any of them.

    >>> confusion(np.eye(2, dtype=bool), np.array([[0.9, 0.1], [0.8, 0.2]])).tolist()
    [[1, 0], [1, 0]]
    """
    targets = np.asarray(targets, bool)
    counts = np.zeros((targets.shape[1], targets.shape[1]), int)
    for truth, heard in zip(targets, probabilities.argmax(axis=1), strict=True):
        for k in [heard] if truth[heard] else np.flatnonzero(truth):
            counts[k, heard] += 1
    return counts


def look_alikes(counts: np.ndarray, names: Sequence[str], most: int = 8) -> list[str]:
    """Confusion counts -> the pairs of classes that are confused most often, a line each."""
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(i), len(counts)) for i in order]
    return [f"{names[k]} heard as {names[j]}: {wrong[k, j]} of {counts[k].sum()}" for k, j in pairs if wrong[k, j]]


def write_report(folder: Path, study: "Study", found: dict[str, Any], thresholds: tuple[float, ...]) -> None:
    """What was found -> the files of the run's folder, and the table on standard output."""
    all_seeds = found.pop("probabilities")
    targets = np.tile(study.targets[study.evaluated], (len(all_seeds), 1))
    probabilities = all_seeds.reshape(-1, all_seeds.shape[-1])
    known = np.flatnonzero(targets.any(axis=0))
    figures = compute_metrics(targets[:, known], probabilities[:, known])
    counts = confusion(targets, probabilities)
    classes = class_table(
        targets[:, known],
        probabilities[:, known],
        [thresholds[k] for k in known],
        [study.names[k] for k in known],
        figures,
    )
    lines = [*_table(study, found), "", *look_alikes(counts, study.names)]
    rows = [["", *study.names], *([name, *row] for name, row in zip(study.names, counts.tolist(), strict=True))]
    confused = "".join(",".join(map(str, row)) + "\n" for row in rows)
    table = "\n".join(lines) + "\n"
    for name, text in (("classes.csv", classes), ("confusion.csv", confused), ("table.md", table)):
        write_atomically(folder / name, partial(Path.write_text, data=text))
    summary = {**found, "figures": figures.as_dict(), "classes": list(study.names), "thresholds": list(thresholds)}
    summary |= {"errors": list(study.embedded.errors), "missing": list(study.clips.missing)}
    write_json(folder / "metrics.json", summary)
    print("\n".join([*lines, "", classes, _for_a_device(folder), f"run folder: {folder}", figures.line()]))


def _for_a_device(folder: Path) -> str:
    if not (folder / "head.keras").is_file():
        return "--segments seconds would make the two parts that `kerastag stream --model EMBEDDER --head HEAD` takes"
    return f"to `kerastag export`, then to stream: --model {folder / 'embedder.keras'} --head {folder / 'head.keras'}"


def _table(study: "Study", found: dict[str, Any]) -> list[str]:
    what = "accuracy" if study.single else "mAP"
    numbers = range(1, len(found["kinds"]) + 1)
    lines = [
        f"{len(study.evaluated)} clips, {len(study.clips.labels)} classes; "
        f"embedding {found['embedding_seconds']:.0f} s, all {found['seconds']:.0f} s",
        "",
    ]
    if not found["folds"]:
        return [*lines, "no cross-validation: what follows is measured on the clips that were trained on"]
    lines.append(f"| {what} | {' | '.join(f'fold {n}' for n in numbers)} | mean |")
    lines.append("| --- " * (len(numbers) + 2) + "|")
    name = "attention head, backbone fine-tuned" if study.settings.fine_tune else "attention head, backbone frozen"
    for seed, scores in zip(study.settings.seeds, found["folds"], strict=True):
        lines.append(_row(f"{name}, seed {seed}", scores))
    lines.append(_row(f"{name}, mean of {len(found['folds'])}", np.mean(found["folds"], axis=0)))
    if found["logistic"]:
        lines.append(_row("logistic regression on whole-clip embeddings", found["logistic"]))
    lines.append(f"| segments of a bag | {' | '.join(found['kinds'])} | |")
    return lines


def _row(name: str, scores: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{score:.4f}' for score in scores)} | {np.mean(scores):.4f} |"
