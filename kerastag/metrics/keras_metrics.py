"""Mean average precision and d-prime as Keras metrics, for `model.compile(metrics=[...])` on any backend."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

__all__ = ["DPrime", "MeanAveragePrecision"]

_MIN_PROBABILITY = 1e-7
_MAX_LOGIT = math.log(1 / _MIN_PROBABILITY - 1)


class _RankingMetric(keras.metrics.Metric):
    """Base class of metrics that are computed from the numbers of positive and negative clips in each bin of scores."""

    def __init__(self, num_bins: int, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        if not isinstance(num_bins, int) or num_bins < 2:
            raise ValueError(f"`num_bins` must be an integer of at least 2; received: {num_bins!r}")
        self.num_bins = num_bins
        self.positives: Any = None
        self.negatives: Any = None

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        if len(y_pred.shape) != 2 or len(y_true.shape) != 2:
            shapes = f"shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            raise ValueError(f"`y_true` and `y_pred` must both be (batch, classes); received: {shapes}")
        self._build(y_pred.shape[1])
        weights = ops.ones_like(y_pred)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, "float32")
            weights *= ops.expand_dims(sample_weight, -1) if len(sample_weight.shape) == 1 else sample_weight
        num_classes = self.positives.shape[0]
        probability = ops.clip(y_pred, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        position = 0.5 - (ops.log(probability) - ops.log1p(-probability)) / (2 * _MAX_LOGIT)  # 0 for the highest score
        bins = ops.clip(ops.cast(position * self.num_bins, "int32"), 0, self.num_bins - 1)
        cells = ops.reshape(bins + self.num_bins * ops.arange(num_classes, dtype="int32"), [-1])
        for counts, share in ((self.positives, y_true), (self.negatives, 1 - y_true)):
            sums = ops.segment_sum(ops.reshape(weights * share, [-1]), cells, num_classes * self.num_bins)
            counts.assign_add(ops.reshape(sums, counts.shape))

    def result(self) -> Any:
        if self.positives is None:
            return ops.zeros((), dtype=self.dtype)
        value = self._compute(ops.convert_to_tensor(self.positives), ops.convert_to_tensor(self.negatives))
        return ops.cast(value, self.dtype)

    def _compute(self, positives: Any, negatives: Any) -> Any:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_bins": self.num_bins}

    def _build(self, num_classes: int) -> None:
        if self.positives is None:
            options = {"shape": (num_classes, self.num_bins), "initializer": "zeros", "dtype": "float32"}
            self.positives = self.add_weight(name="positives", **options)
            self.negatives = self.add_weight(name="negatives", **options)
        elif self.positives.shape[0] != num_classes:
            raise ValueError(f"`y_pred` must have {self.positives.shape[0]} classes; received: {num_classes}")


@keras.saving.register_keras_serializable(package="kerastag")
class MeanAveragePrecision(_RankingMetric):
    """Average precision, averaged over classes (mAP), of a multi-label model.

    Per class, with `tp(b)` positives and `n(b)` clips whose score is in bin `b` or above, and `P` positives in all::

        AP = sum over bins b of positives(b) / P * tp(b) / n(b)

    Scores in one bin count as equal, otherwise the result is that of `kerastag.metrics.compute_metrics`, which needs
    all scores at once. Bins are even on the logit scale from 1e-7 to 1 - 1e-7, because the probabilities of rare
    classes crowd near 0: with 1,000 bins, equal are `p` near 0, or `1 - p` near 1, that differ by less than 3 %. The
    state, created by the first batch, is two float32 arrays `(classes, num_bins)`, exact up to 16.7 million clips.

    `y_true` and `y_pred` are `(batch, classes)`. `y_true` is in [0, 1]: a fractional target, such as mixup creates,
    counts as that share of a positive and the rest of a negative clip. `sample_weight`, `(batch,)`, `(batch, 1)` or
    `(batch, classes)`, multiplies these counts, as in scikit-learn; a weight of 0 removes a clip, or a class of it.

    Classes without positives are skipped. The result is 0 where every class is skipped.

    Args:
        num_bins: Number of bins per class, at least 2.
        name: Name of the metric.
        dtype: Data type of the result; counts are float32 whatever it is.

    Raises:
        ValueError: `num_bins` is out of range, or `update_state` receives other shapes.

    >>> import kerastag
    >>> metric = kerastag.metrics.MeanAveragePrecision()
    >>> metric.update_state([[1, 0], [0, 1], [1, 0]], [[0.9, 0.2], [0.4, 0.3], [0.4, 0.1]])
    >>> round(float(metric.result()), 4)
    0.9167

    Reference:
        Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", 2019, eq. 30. Deviations: scores
        are rounded to bins, and classes without positives are skipped.
    """

    def __init__(self, num_bins: int = 1000, name: str = "map", dtype: Any = None) -> None:
        super().__init__(num_bins, name, dtype)

    def _compute(self, positives: Any, negatives: Any) -> Any:
        true_positives = ops.cumsum(positives, axis=1)  # in each bin or above
        num_above = true_positives + ops.cumsum(negatives, axis=1)
        num_positives = true_positives[:, -1]
        precision = ops.divide_no_nan(true_positives, num_above)
        average_precision = ops.divide_no_nan(ops.sum(positives * precision, axis=1), num_positives)
        return _average(average_precision, num_positives > 0)


@keras.saving.register_keras_serializable(package="kerastag")
class DPrime(_RankingMetric):
    """d-prime of a multi-label model: `sqrt(2) * inverse_normal_cdf(mean over classes of AUC)`.

    Per class, with `P` positives and `N` negatives::

        AUC = sum over bins b of positives(b) * (negatives below b + negatives(b) / 2) / (P * N)

    Arguments, errors, state, resolution, `y_true`, `y_pred` and `sample_weight` are those of `MeanAveragePrecision`.
    Classes without positives or without negatives are skipped. The result is 0 where every class is skipped, and
    infinite where the mean AUC is 1.

    >>> import kerastag
    >>> metric = kerastag.metrics.DPrime()
    >>> metric.update_state([[1, 0], [0, 1], [1, 0]], [[0.9, 0.2], [0.4, 0.3], [0.4, 0.1]])
    >>> round(float(metric.result()), 3)
    1.627

    Reference:
        Kong et al., 2019, eq. 31 and 32. Deviations: scores are rounded to bins, and classes are skipped as described.
    """

    def __init__(self, num_bins: int = 1000, name: str = "d_prime", dtype: Any = None) -> None:
        super().__init__(num_bins, name, dtype)

    def _compute(self, positives: Any, negatives: Any) -> Any:
        negatives_above = ops.cumsum(negatives, axis=1)  # in each bin or above
        num_positives, num_negatives = ops.sum(positives, axis=1), negatives_above[:, -1]
        # Subtracting the share of the negatives above from 1 keeps more digits than adding up those below.
        share_above = ops.divide_no_nan(negatives_above - negatives / 2, num_negatives[:, None])
        mean_share_above = ops.divide_no_nan(ops.sum(positives * share_above, axis=1), num_positives)
        is_counted = ops.logical_and(num_positives > 0, num_negatives > 0)
        mean_auc = ops.where(ops.any(is_counted), 1 - _average(mean_share_above, is_counted), 0.5)
        # sqrt(2) * inverse_normal_cdf(x) is 2 * erfinv(2 x - 1).
        return 2 * ops.erfinv(2 * mean_auc - 1)


def _average(values: Any, is_counted: Any) -> Any:
    """Return the mean of the counted classes, 0 without any."""
    is_counted = ops.cast(is_counted, "float32")
    return ops.divide_no_nan(ops.sum(values * is_counted), ops.sum(is_counted))
