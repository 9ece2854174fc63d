"""Distances between bags of embeddings, in blocks of matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 128  # bags of either collection at a time


def compute_hausdorff_distances(
    bags_a: ArrayLike,
    bags_b: ArrayLike,
    mask_a: ArrayLike | None = None,
    mask_b: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Compute the minimal Hausdorff distance of every pair of bags of two collections.

        D(A, B) = min over x in A, y in B of |x - y|

    With `|x - y|^2 = |x|^2 + |y|^2 - 2 x.y`, all pairs of instances of a block are one matrix product in float32. Both
    collections are centered at the mean of `bags_b` first, which changes no distance and keeps the cancellation small.
    Besides the result, this takes memory for 128 x 128 times the number of pairs of instances of two bags.

    Args:
        bags_a: Finite numbers, `(a, instances, features)`.
        bags_b: Finite numbers, `(b, instances, features)`, with any number of instances.
        mask_a: Validity of the instances of `bags_a`, bool `(a, instances)`; None if all are valid.
        mask_b: Validity of the instances of `bags_b`, bool `(b, instances)`; None if all are valid.

    Returns:
        Distances, float32 `(a, b)`.

    Raises:
        ValueError: The shapes do not fit, a bag has no valid instance, or a valid instance is not finite.

    >>> from kerastag.data import compute_hausdorff_distances
    >>> compute_hausdorff_distances([[[0.0, 0.0], [3.0, 4.0]]], [[[3.0, 4.0]], [[3.0, 0.0]]])
    array([[0., 3.]], dtype=float32)

    Reference:
        Kong et al., 2019, eq. 11.
    """
    a, mask_a = _check_bags("bags_a", bags_a, mask_a)
    b, mask_b = _check_bags("bags_b", bags_b, mask_b)
    if a.shape[2] != b.shape[2]:
        raise ValueError(
            f"`bags_a` and `bags_b` must have the same number of features; received: {a.shape[2]} and {b.shape[2]}"
        )
    if not len(a) or not len(b):
        return np.empty((len(a), len(b)), np.float32)
    center = b[mask_b].mean(axis=0)
    distances = np.empty((len(a), len(b)), np.float32)
    columns = [(j, *_flatten(b[j : j + _BLOCK], mask_b[j : j + _BLOCK], center)) for j in range(0, len(b), _BLOCK)]
    for i in range(0, len(a), _BLOCK):
        rows, row_norms = _flatten(a[i : i + _BLOCK], mask_a[i : i + _BLOCK], center)
        for j, others, other_norms in columns:
            products = others @ rows.T  # (instances of b * bags of b, instances of a * bags of a)
            products *= -2
            products += other_norms[:, None]
            # Instances precede bags, so that both minima run over whole rows and are vectorized.
            nearest = products.reshape(b.shape[1], -1, products.shape[1]).min(axis=0)
            nearest += row_norms
            nearest = nearest.reshape(len(nearest), a.shape[1], -1).min(axis=1)  # (bags of b, bags of a)
            distances[i : i + _BLOCK, j : j + _BLOCK] = np.sqrt(np.maximum(nearest, 0)).T
    return distances


def _flatten(
    bags: NDArray[np.float32], mask: NDArray[np.bool_], center: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flatten bags to `(instances * bags, features)`, all first instances first, and compute their squared norms.

    A padded instance becomes the center with an infinite squared norm, so that it is never the nearest.
    """
    centered = np.where(mask[..., None], bags - center, 0).transpose(1, 0, 2).reshape(-1, bags.shape[2])
    norms = np.einsum("if,if->i", centered, centered)
    return centered, np.where(mask.T.ravel(), norms, np.float32(np.inf))


def _check_bags(name: str, bags: ArrayLike, mask: ArrayLike | None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    bags = np.asarray(bags, np.float32)
    if bags.ndim != 3:
        raise ValueError(f"`{name}` must have shape (bags, instances, features); received: {bags.shape}")
    mask = np.ones(bags.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != bags.shape[:2]:
        raise ValueError(f"the mask of `{name}` must have shape {bags.shape[:2]}; received: {mask.shape}")
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        raise ValueError(f"`{name}` must have a valid instance in every bag; received: none in bag {empty[0]}")
    bad = np.argwhere(~np.isfinite(bags).all(axis=2) & mask)
    if len(bad):
        raise ValueError(f"`{name}` must be finite; received: NaN or infinity in bag {bad[0][0]}, instance {bad[0][1]}")
    return bags, mask
