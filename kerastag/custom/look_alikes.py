"""Recordings of different classes that sound alike to the backbone: their embeddings are close."""

from dataclasses import dataclass

import numpy as np

__all__ = ["LookAlikes", "Neighbors", "find_neighbors", "rank_look_alikes"]

_BLOCK_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest neighbor of each clip among the clips of other classes.

    Attributes:
        rows: Row number of the most similar clip that shares no label with the clip, int `(clips,)`; -1 for none.
        similarities: Cosine similarity to it, float32 `(clips,)`, in [-1, 1].
        own_similarities: Cosine similarity to the most similar other clip that shares a label, float32 `(clips,)`; -1
            without one.
    """

    rows: np.ndarray
    similarities: np.ndarray
    own_similarities: np.ndarray


@dataclass(frozen=True)
class LookAlikes:
    """Two classes with clips that are closer to a clip of the other class than to any of their own.

    Attributes:
        classes: Indices of the two classes.
        count: Number of such clips in both classes.
        total: Number of clips of both classes.
        pairs: Row numbers of such clips and of their neighbors in the other class, the most similar ones first.
    """

    classes: tuple[int, int]
    count: int
    total: int
    pairs: tuple[tuple[int, int], ...]


def find_neighbors(embeddings: np.ndarray, targets: np.ndarray) -> Neighbors:
    """Find the nearest neighbor of each clip among the clips of other classes.

    Features are standardized and compared by the cosine of their angle.

    Args:
        embeddings: Embeddings of clips, `(clips, features)`.
        targets: Labels, bool `(clips, classes)`.
    """
    x = np.asarray(embeddings, np.float32)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    labels = targets.astype(np.float32)
    rows, similarities, own_similarities = [], [], []
    for start in range(0, len(x), _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, len(x))
        block = np.clip(x[start:stop] @ x.T, -1, 1)
        shares_label = labels[start:stop] @ labels.T > 0
        numbers = np.arange(stop - start)
        others = np.where(shares_label, -2, block)
        others[numbers, start + numbers] = -2  # A clip without a label is not its own neighbor.
        own = np.where(shares_label, block, -1)
        own[numbers, start + numbers] = -1
        nearest = others.argmax(axis=1)
        best = others[numbers, nearest]
        rows.append(np.where(best > -2, nearest, -1))
        similarities.append(np.maximum(best, -1))
        own_similarities.append(own.max(axis=1))
    return Neighbors(*(np.concatenate(parts) for parts in (rows, similarities, own_similarities)))


def rank_look_alikes(neighbors: Neighbors, targets: np.ndarray, max_pairs: int = 3) -> list[LookAlikes]:
    """Rank pairs of classes by the share of their clips that are closer to the other class than to their own.

    A clip with several labels counts for the first one.

    Args:
        neighbors: Nearest neighbors of the clips.
        targets: Labels, bool `(clips, classes)`.
        max_pairs: Largest number of pairs of clips to list, at least 1.
    """
    classes, counts = targets.argmax(axis=1), targets.sum(axis=0)
    is_closer = (neighbors.rows >= 0) & (neighbors.similarities > neighbors.own_similarities) & targets.any(axis=1)
    pairs_by_classes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row in sorted(np.flatnonzero(is_closer).tolist(), key=lambda row: -neighbors.similarities[row]):
        neighbor = int(neighbors.rows[row])
        if targets[neighbor].any():
            first, second = sorted((int(classes[row]), int(classes[neighbor])))
            pairs_by_classes.setdefault((first, second), []).append((row, neighbor))
    ranked = [
        LookAlikes(pair, len(rows), int(counts[list(pair)].sum()), _drop_mirrored(rows)[:max_pairs])
        for pair, rows in pairs_by_classes.items()
    ]
    return sorted(ranked, key=lambda each: (-each.count / each.total, each.classes))


def _drop_mirrored(pairs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Drop pairs that are there in the other order already."""
    unique: dict[frozenset[int], tuple[int, int]] = {}
    for pair in pairs:
        unique.setdefault(frozenset(pair), pair)
    return tuple(unique.values())
