"""Synthetic background that is like a class of the user, which must not be trained on as its opposite."""

import numpy as np

from kerastag.custom.clips import BACKGROUND, Clips

__all__ = ["find_similar_background"]

_SHARE_OF_MEAN = 0.1  # of the mean variance, which is added to that of each feature: few clips estimate it badly


def find_similar_background(clips: Clips, embeddings: np.ndarray) -> np.ndarray:
    """Find the synthetic clips that are as similar to a class as its recordings are to each other.

    A detector of hums has recordings like the synthetic hums, which are background for everybody else. The similarity
    is the cosine of the angle between the embeddings of whole clips, each feature standardized over the recordings. A
    synthetic clip is similar to a class if it is closer to its nearest recording of the class than a quarter of the
    recordings are to their nearest other one.

    Args:
        clips: Clips of a run.
        embeddings: Embeddings of the whole clips, `(clips, features)`.

    Returns:
        Whether each clip is synthetic and similar to a class, bool `(clips,)`.
    """
    is_synthetic = np.array([isinstance(clip, np.ndarray) for clip in clips.audio])
    recorded = embeddings[~is_synthetic]
    variance = recorded.var(axis=0)
    x = (embeddings - recorded.mean(axis=0)) / np.sqrt(variance + _SHARE_OF_MEAN * variance.mean() + 1e-12)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    is_similar = np.zeros(len(clips), bool)
    for k, name in enumerate(clips.class_names):
        own = np.flatnonzero(clips.targets[:, k] & ~is_synthetic)
        if name == BACKGROUND or len(own) < 2:
            continue
        similarities = x[own] @ x[own].T
        np.fill_diagonal(similarities, -1)
        is_similar |= is_synthetic & ((x @ x[own].T).max(axis=1) > np.quantile(similarities.max(axis=1), 0.25))
    return is_similar
