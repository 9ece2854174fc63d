"""Average precision of bootstrap samples of the clips, for intervals of mAP and of differences of mAP."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerastag.metrics.classification import check_arrays

__all__ = ["bootstrap_average_precision", "draw_bootstrap_counts"]

_DRAWS_PER_BLOCK = 128  # The counts of all clips stay in the cache of the processor.


def draw_bootstrap_counts(num_clips: int, num_draws: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Draw how often each clip is in each bootstrap sample, which has as many clips as there are.

    Returns:
        Counts, float32 `(clips, draws)`.

    >>> draw_bootstrap_counts(5, 2, np.random.default_rng(0)).sum(axis=0).tolist()
    [5.0, 5.0]
    """
    counts = np.empty((num_clips, num_draws), np.float32)
    for k in range(num_draws):
        counts[:, k] = np.bincount(random.integers(num_clips, size=num_clips), minlength=num_clips)
    return counts


def bootstrap_average_precision(y_true: ArrayLike, y_score: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the average precision of each class in bootstrap samples of the clips.

    With `c(i)` copies of clip `i` in a sample, and `n(s)` and `tp(s)` its copies of clips and of positives that score
    at least `s`::

        AP = sum over positives i of c(i) * tp(s_i) / n(s_i) / sum over positives i of c(i)

    The clips of a class are sorted once for all samples.

    Args:
        y_true: Targets of 0 and 1, or booleans, `(clips, classes)`.
        y_score: Scores, any finite numbers, `(clips, classes)`; a higher score means more probable.
        counts: Number of copies of each clip in each sample, `(clips, samples)`, as `draw_bootstrap_counts` returns.

    Returns:
        Average precision, `(samples, classes)`; NaN where a sample has no positive.

    Raises:
        ValueError: A shape or a value is another one than above.

    >>> from kerastag.metrics import bootstrap_average_precision, compute_metrics
    >>> y_true, y_score = [[1], [0], [1]], [[0.9], [0.7], [0.4]]
    >>> bootstrap_average_precision(y_true, y_score, [[1, 2], [1, 0], [1, 1]]).ravel().round(4).tolist()
    [0.8333, 1.0]
    """
    from scipy.sparse import csr_array

    is_positive, scores = check_arrays(y_true, y_score)
    counts = np.asarray(counts, np.float32)
    num_clips, num_classes = scores.shape
    if counts.ndim != 2 or len(counts) != num_clips:
        raise ValueError(f"`counts` must be ({num_clips}, samples); received: shape {counts.shape}")
    starts = range(0, counts.shape[1], _DRAWS_PER_BLOCK)
    blocks = [np.ascontiguousarray(counts[:, start : start + _DRAWS_PER_BLOCK]) for start in starts]
    average_precision = np.full((counts.shape[1], num_classes), np.nan)
    for k in np.flatnonzero(is_positive.any(axis=0)):
        thresholds = np.unique(scores[is_positive[:, k], k])
        # Row of each clip: the highest of the thresholds, in descending order, that it reaches.
        rows = len(thresholds) - np.searchsorted(thresholds, scores[:, k], "right")
        tables = []
        for clips in (np.flatnonzero(rows < len(thresholds)), np.flatnonzero(is_positive[:, k])):
            cells = (np.ones(len(clips), np.float32), (rows[clips], clips))
            tables.append(csr_array(cells, shape=(len(thresholds), num_clips)))
        for start, block in zip(starts, blocks, strict=True):
            clips_at, positives_at = (table @ block for table in tables)  # (thresholds, samples)
            precision = positives_at.cumsum(axis=0) / np.maximum(clips_at.cumsum(axis=0), 1)
            with np.errstate(invalid="ignore"):
                means = (positives_at * precision).sum(axis=0) / positives_at.sum(axis=0)
            average_precision[start : start + block.shape[1], k] = means
    return average_precision
