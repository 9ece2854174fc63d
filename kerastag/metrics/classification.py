"""Average precision, area under the ROC curve and d-prime of a tagger, exact and class by class."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

__all__ = ["Metrics", "class_report", "compute_metrics", "d_prime"]


@dataclass(frozen=True, eq=False)
class Metrics:
    """What `compute_metrics` found.

    Attributes:
        map: mean of `average_precision` over the classes that have one, in [0, 1].
        mauc: mean of `auc` over the classes that have one, in [0, 1].
        d_prime: separation of positives and negatives, from the mean AUC; infinite when `mauc` is 1.
        average_precision: (classes,) float64, NaN for a class without a positive clip.
        auc: (classes,) float64, NaN for a class without a positive or without a negative clip.
        num_positives: (classes,) int64, positive clips.
        num_clips: clips measured.
        left_out: indices of the classes without an `auc`; those without a positive lack `average_precision` too.
    """

    map: float
    mauc: float
    d_prime: float
    average_precision: NDArray[np.float64]
    auc: NDArray[np.float64]
    num_positives: NDArray[np.int64]
    num_clips: int
    left_out: tuple[int, ...]

    def line(self) -> str:
        """The three figures in one line, as every recipe ends with it."""
        return f"mAP {self.map:.4f}  mAUC {self.mauc:.4f}  d-prime {self.d_prime:.3f}"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for strict JSON: what is NaN or infinite becomes None."""
        return {
            "map": _finite(self.map),
            "mauc": _finite(self.mauc),
            "d_prime": _finite(self.d_prime),
            "num_clips": self.num_clips,
            "average_precision": [_finite(value) for value in self.average_precision],
            "auc": [_finite(value) for value in self.auc],
            "num_positives": [int(count) for count in self.num_positives],
            "left_out": list(self.left_out),
        }


def compute_metrics(targets: ArrayLike, scores: ArrayLike, labels: Sequence[str] | None = None) -> Metrics:
    """Turns targets and scores of many clips into mAP, mAUC and d-prime.

    With n(s) the clips and tp(s) the positives that score at least s, P positives and N negatives of a class::

        AP  = mean over positives i of tp(s_i) / n(s_i)
        AUC = sum over positives i of (negatives below s_i + negatives equal to s_i / 2) / (P * N)

    which is what `average_precision_score` and `roc_auc_score` of scikit-learn give, ties included, without a
    curve: one sort a class, then look-ups of the few positives.

    Args:
        targets: (clips, classes), boolean or 0 and 1: the tags of each clip.
        scores: (clips, classes), any finite numbers, greater means likelier.
        labels: names of the classes, only to name a class in an error.

    Raises:
        ValueError: `targets` and `scores` differ in shape or are not two-dimensional, `targets` holds something
            else than 0 and 1, `scores` holds NaN or infinity, `labels` has another length, or no class has both a
            positive and a negative clip.

    >>> found = compute_metrics([[1, 0], [0, 1], [1, 0]], [[0.9, 0.2], [0.4, 0.3], [0.4, 0.1]])
    >>> print(found.line())
    mAP 0.9167  mAUC 0.8750  d-prime 1.627

    Reference: Kong et al., 2019, "Weakly Labelled AudioSet Tagging with Attention Neural Networks", eq. 30-32;
    d-prime is that of the mean AUC, as in the paper's tables. Deviation: classes without a positive are left out.
    """
    targets, scores = _checked(targets, scores, labels)
    num_clips, num_classes = targets.shape
    average_precision = np.full(num_classes, np.nan)
    auc = np.full(num_classes, np.nan)
    num_positives = targets.sum(axis=0, dtype=np.int64)
    for k in np.flatnonzero(num_positives):
        average_precision[k], auc[k] = _class_figures(scores[:, k], targets[:, k])
    left_out = np.flatnonzero(np.isnan(auc))
    if len(left_out) == num_classes:
        raise ValueError(
            "`targets` must hold a class with a positive and a negative clip, "
            f"received {num_clips} clips, {num_classes} classes and {num_positives.sum()} positives"
        )
    mean_auc = float(np.nanmean(auc))
    return Metrics(
        map=float(np.nanmean(average_precision)),
        mauc=mean_auc,
        d_prime=d_prime(mean_auc),
        average_precision=average_precision,
        auc=auc,
        num_positives=num_positives,
        num_clips=num_clips,
        left_out=tuple(int(k) for k in left_out),
    )


def d_prime(auc: float) -> float:
    """Turns an area under the ROC curve into d-prime: `sqrt(2) * inverse_normal_cdf(auc)`.

    Args:
        auc: in [0, 1].

    Raises:
        ValueError: `auc` is outside [0, 1].

    >>> round(d_prime(0.969), 3)
    2.639

    Reference: Kong et al., 2019, eq. 32.
    """
    if not 0 <= auc <= 1:
        raise ValueError(f"`auc` must be in [0, 1], received {auc}")
    return float(math.sqrt(2) * ndtri(auc))


def class_report(metrics: Metrics, labels: Sequence[str]) -> str:
    """Turns metrics into a CSV text with a line a class: index, name, positive clips, average precision, AUC.

    Args:
        metrics: from `compute_metrics`.
        labels: the name of each class. Figures that a class lacks are left empty.

    Raises:
        ValueError: `labels` has another length than the classes of `metrics`.

    >>> found = compute_metrics([[1, 0], [0, 0]], [[0.9, 0.2], [0.4, 0.3]])
    >>> print(class_report(found, ["Dog", "Cat"]))
    index,display_name,num_positives,average_precision,auc
    0,Dog,1,1.000000,1.000000
    1,Cat,0,,
    <BLANKLINE>
    """
    _check_labels(labels, len(metrics.auc))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["index", "display_name", "num_positives", "average_precision", "auc"])
    for k, name in enumerate(labels):
        figures = (metrics.average_precision[k], metrics.auc[k])
        table.writerow([k, name, metrics.num_positives[k], *("" if np.isnan(f) else f"{f:.6f}" for f in figures)])
    return text.getvalue()


def _class_figures(scores: NDArray[Any], is_positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Average precision and AUC of one class that has a positive clip."""
    ordered, positives = np.sort(scores), np.sort(scores[is_positive])
    num_clips, num_positives = len(ordered), len(positives)
    num_negatives = num_clips - num_positives
    below = np.searchsorted(ordered, positives, "left")
    positives_below = np.searchsorted(positives, positives, "left")
    average_precision = float(np.mean((num_positives - positives_below) / (num_clips - below)))
    if not num_negatives:
        return average_precision, math.nan
    not_above = np.searchsorted(ordered, positives, "right")
    positives_not_above = np.searchsorted(positives, positives, "right")
    # Twice the negatives that a positive beats, a tie counting half: whole numbers, so the sum is exact.
    doubled = (below - positives_below) + (not_above - positives_not_above)
    return average_precision, int(doubled.sum()) / (2 * num_positives * num_negatives)


def _checked(
    targets: ArrayLike, scores: ArrayLike, labels: Sequence[str] | None
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """The two arrays, classes contiguous in memory, or an error that names the argument."""
    targets, scores = np.asarray(targets), np.asarray(scores)
    if targets.ndim != 2 or targets.shape != scores.shape:
        raise ValueError(
            f"`targets` and `scores` must both be (clips, classes), received shapes {targets.shape} and {scores.shape}"
        )
    if targets.dtype != bool:
        others = targets[(targets != 0) & (targets != 1)]
        if others.size:
            raise ValueError(f"`targets` must hold 0 and 1 only, received {others[0]}")
    if not (np.issubdtype(scores.dtype, np.floating) or np.issubdtype(scores.dtype, np.integer)):
        raise ValueError(f"`scores` must be real numbers, received dtype {scores.dtype}")
    bad = ~np.isfinite(scores)
    if bad.any():
        clip, k = (int(index) for index in np.argwhere(bad)[0])
        name = f"{k} ({labels[k]})" if labels is not None and k < len(labels) else k
        raise ValueError(f"`scores` must be finite, received {scores[clip, k]} for clip {clip}, class {name}")
    _check_labels(labels, targets.shape[1])
    return np.asfortranarray(targets, dtype=bool), np.asfortranarray(scores)


def _check_labels(labels: Sequence[str] | None, num_classes: int) -> None:
    if labels is not None and len(labels) != num_classes:
        raise ValueError(f"`labels` must name {num_classes} classes, received {len(labels)}")


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
