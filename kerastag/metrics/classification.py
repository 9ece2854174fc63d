"""Exact metrics of clips: average precision, area under the ROC curve and d-prime."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from kerastag.files import format_csv

__all__ = ["Metrics", "compute_d_prime", "compute_metrics", "format_class_report", "format_d_prime"]


@dataclass(frozen=True, eq=False)
class Metrics:
    """Classification metrics of a tagger.

    Attributes:
        map: Mean of `average_precision` without NaN, in [0, 1].
        mauc: Mean of `auc` without NaN, in [0, 1].
        d_prime: d-prime of `mauc`; infinite where `mauc` is 1.
        average_precision: Average precision of each class, `(classes,)`; NaN without positives.
        auc: Area under the ROC curve of each class, `(classes,)`; NaN without positives or without negatives.
        num_positives: Number of positive clips of each class, `(classes,)`.
        num_clips: Number of clips.
        skipped_classes: Indices of the classes whose `auc` is NaN.
    """

    map: float
    mauc: float
    d_prime: float
    average_precision: NDArray[np.float64]
    auc: NDArray[np.float64]
    num_positives: NDArray[np.int64]
    num_clips: int
    skipped_classes: tuple[int, ...]

    def format_line(self) -> str:
        """Return mAP, mAUC and d-prime in one line of text."""
        return f"mAP {self.map:.4f}  mAUC {self.mauc:.4f}  d-prime {format_d_prime(self.d_prime)}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists for strict JSON; NaN and infinity become None."""
        return {
            **{name: _as_json(getattr(self, name)) for name in ("map", "mauc", "d_prime")},
            "num_clips": self.num_clips,
            **{name: [_as_json(v) for v in getattr(self, name)] for name in ("average_precision", "auc")},
            "num_positives": self.num_positives.tolist(),
            "skipped_classes": list(self.skipped_classes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Metrics:
        """Restore metrics from the result of `as_dict`, of this version or an earlier one.

        Raises:
            ValueError: A key is missing.
        """
        if "left_out" in values:  # the name of `skipped_classes` before version 0.1.0
            values = {**values, "skipped_classes": values["left_out"]}
        try:
            arguments = {field.name: values[field.name] for field in fields(cls)}
        except KeyError as error:
            raise ValueError(f"`values` must have the key `{error.args[0]}`; received: {', '.join(values)}") from None
        for name, dtype in (("average_precision", np.float64), ("auc", np.float64), ("num_positives", np.int64)):
            arguments[name] = np.array(arguments[name], dtype)  # None becomes NaN
        arguments["skipped_classes"] = tuple(arguments["skipped_classes"])
        for name in ("map", "mauc"):
            arguments[name] = math.nan if arguments[name] is None else arguments[name]
        if arguments["d_prime"] is None:
            arguments["d_prime"] = math.copysign(math.inf, arguments["mauc"] - 0.5)
        return cls(**arguments)


def compute_metrics(y_true: ArrayLike, y_score: ArrayLike, class_names: Sequence[str] | None = None) -> Metrics:
    """Compute mAP, mAUC and d-prime.

    With `n(s)` the number of clips and `tp(s)` the number of positives that score at least `s`, and with `P` positives
    and `N` negatives of a class::

        AP  = mean over positives i of tp(s_i) / n(s_i)
        AUC = sum over positives i of (negatives below s_i + negatives equal to s_i / 2) / (P * N)

    Both equal `average_precision_score` and `roc_auc_score` of scikit-learn, ties included, but build no curve.

    Args:
        y_true: Targets of 0 and 1, or booleans, `(clips, classes)`.
        y_score: Scores, any finite numbers, `(clips, classes)`; a higher score means more probable.
        class_names: Names of the classes, used only to name a class in an error.

    Returns:
        The metrics. Classes without positives are skipped, as are, in `mauc`, classes without negatives.

    Raises:
        ValueError: A shape, a value or the length of `class_names` is another one than above, or no class has both a
            positive and a negative clip.

    >>> from kerastag.metrics import compute_metrics
    >>> metrics = compute_metrics([[1, 0], [0, 1], [1, 0]], [[0.9, 0.2], [0.4, 0.3], [0.4, 0.1]])
    >>> print(metrics.format_line())
    mAP 0.9167  mAUC 0.8750  d-prime 1.627

    Reference:
        Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", 2019, eq. 30 to 32. As in the
        tables of the paper, d-prime is that of the mean AUC. Deviation: classes without positives are skipped.
    """
    is_positive, scores = check_arrays(y_true, y_score, class_names)
    num_clips, num_classes = is_positive.shape
    average_precision, auc = np.full((2, num_classes), np.nan)
    num_positives = is_positive.sum(axis=0, dtype=np.int64)
    for k in np.flatnonzero(num_positives):
        average_precision[k], auc[k] = _compute_class_metrics(is_positive[:, k], scores[:, k])
    is_skipped = np.isnan(auc)
    if is_skipped.all():
        raise ValueError(
            "`y_true` must hold a class with a positive and a negative clip; "
            f"received: {num_clips} clips, {num_classes} classes and {num_positives.sum()} positives"
        )
    mean_auc = float(np.nanmean(auc))
    return Metrics(
        map=float(np.nanmean(average_precision)),
        mauc=mean_auc,
        d_prime=compute_d_prime(mean_auc),
        average_precision=average_precision,
        auc=auc,
        num_positives=num_positives,
        num_clips=num_clips,
        skipped_classes=tuple(np.flatnonzero(is_skipped).tolist()),
    )


def compute_d_prime(auc: float) -> float:
    """Convert an area under the ROC curve to d-prime: `sqrt(2) * inverse_normal_cdf(auc)` (Kong et al., 2019, eq. 32).

    Args:
        auc: Area under the ROC curve, in [0, 1], else a ValueError; d-prime of 0 and 1 is infinite.

    >>> from kerastag.metrics import compute_d_prime
    >>> round(compute_d_prime(0.969), 3)
    2.639
    """
    if not 0 <= auc <= 1:
        raise ValueError(f"`auc` must be in [0, 1]; received: {auc}")
    return float(math.sqrt(2) * ndtri(auc))


def format_d_prime(d_prime: float | None) -> str:
    """Format d-prime with three digits; None, which stands for infinity in JSON, is `inf`.

    >>> format_d_prime(-0.0001), format_d_prime(None)
    ('0.000', 'inf')
    """
    return "inf" if d_prime is None else f"{d_prime:z.3f}"


def format_class_report(metrics: Metrics, class_names: Sequence[str]) -> str:
    """Format the metrics of each class as CSV text, with empty cells for NaN.

    Raises:
        ValueError: `class_names` has another length than the classes of `metrics`.

    >>> from kerastag.metrics import compute_metrics, format_class_report
    >>> metrics = compute_metrics([[1, 0], [0, 0]], [[0.9, 0.2], [0.4, 0.3]])
    >>> print(format_class_report(metrics, ["Dog", "Cat"]))
    index,display_name,num_positives,average_precision,auc
    0,Dog,1,1.000000,1.000000
    1,Cat,0,,
    <BLANKLINE>
    """
    _check_class_names(class_names, len(metrics.auc))
    rows: list[list[Any]] = [["index", "display_name", "num_positives", "average_precision", "auc"]]
    for k, name in enumerate(class_names):
        values = (metrics.average_precision[k], metrics.auc[k])
        rows.append([k, name, metrics.num_positives[k], *("" if np.isnan(v) else f"{v:.6f}" for v in values)])
    return format_csv(rows)


def _compute_class_metrics(is_positive: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[float, float]:
    """Compute average precision and AUC of a class with at least one positive clip."""
    positives, negatives = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    positives_above = len(positives) - np.searchsorted(positives, positives, "left")
    negatives_below = np.searchsorted(negatives, positives, "left")
    average_precision = float(np.mean(positives_above / (positives_above + len(negatives) - negatives_below)))
    if not len(negatives):
        return average_precision, math.nan
    # Twice the number of negatives below a positive, where a tie counts half: integers, so the sum is exact.
    doubled = negatives_below + np.searchsorted(negatives, positives, "right")
    return average_precision, int(doubled.sum()) / (2 * len(positives) * len(negatives))


def check_arrays(
    y_true: ArrayLike, y_score: ArrayLike, class_names: Sequence[str] | None = None
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return both arrays with each class contiguous in memory, or raise."""
    y_true, y_score = np.asarray(y_true), np.asarray(y_score)
    if y_true.ndim != 2 or y_true.shape != y_score.shape:
        raise ValueError(
            f"`y_true` and `y_score` must both be (clips, classes); received: shapes {y_true.shape} and {y_score.shape}"
        )
    others = y_true[(y_true != 0) & (y_true != 1)]
    if others.size:
        raise ValueError(f"`y_true` must hold 0 and 1 only; received: {others[0]}")
    if y_score.dtype.kind not in "fiu":
        raise ValueError(f"`y_score` must be real numbers; received: dtype {y_score.dtype}")
    is_bad = ~np.isfinite(y_score)
    if is_bad.any():
        clip, k = np.argwhere(is_bad)[0].tolist()
        name = f"{k} ({class_names[k]})" if class_names is not None and k < len(class_names) else k
        raise ValueError(f"`y_score` must be finite; received: {y_score[clip, k]} for clip {clip}, class {name}")
    if class_names is not None:
        _check_class_names(class_names, y_true.shape[1])
    return np.asfortranarray(y_true, dtype=bool), np.asfortranarray(y_score)


def _check_class_names(class_names: Sequence[str], num_classes: int) -> None:
    if len(class_names) != num_classes:
        raise ValueError(f"`class_names` must name {num_classes} classes; received: {len(class_names)}")


def _as_json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
