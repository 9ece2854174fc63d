"""Distances between bags of embeddings, in blocks of matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["hausdorff_distances"]

_FAR = np.float32(np.inf)


def hausdorff_distances(
    bags_a: ArrayLike,
    bags_b: ArrayLike,
    mask_a: ArrayLike | None = None,
    mask_b: ArrayLike | None = None,
    *,
    block: int = 128,
) -> NDArray[np.float32]:
    """Turns two collections of bags into the smallest distance between an instance of one and one of the other.

    With |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, so that all instance pairs of a block are one matrix product::

        D(A, B) = min over x in A, y in B of |x - y|

    float32 throughout; beside the result, memory for `block` squared times the instances of a pair. Both
    collections are moved to the mean of `bags_b` first, which changes no distance and keeps the float32
    cancellation small.

    Args:
        bags_a: (a, instances, features), finite numbers.
        bags_b: (b, instances, features); the number of instances may differ from that of `bags_a`.
        mask_a, mask_b: (a, instances), (b, instances) bool, False for a padded instance, which then counts in no
            distance. None: every instance is valid.
        block: bags of either side at a time, at least 1.

    Returns:
        (a, b) float32 distances.

    Raises:
        ValueError: the shapes do not fit, a bag has no valid instance, an instance that counts is not finite, or
            `block` is smaller than 1.

    >>> hausdorff_distances([[[0.0, 0.0], [3.0, 4.0]]], [[[3.0, 4.0]], [[3.0, 0.0]]])
    array([[0., 3.]], dtype=float32)

    Reference: Kong et al., 2019, eq. 11.
    """
    a, mask_a = _checked("bags_a", bags_a, mask_a)
    b, mask_b = _checked("bags_b", bags_b, mask_b)
    if a.shape[2] != b.shape[2]:
        raise ValueError(f"`bags_a` and `bags_b` must have as many features, received {a.shape[2]} and {b.shape[2]}")
    if block < 1:
        raise ValueError(f"`block` must be at least 1, received {block}")
    if not len(a) or not len(b):
        return np.empty((len(a), len(b)), np.float32)
    center = b[mask_b].mean(axis=0)
    distances = np.empty((len(a), len(b)), np.float32)
    columns = [(j, *_flat(b[j : j + block], mask_b[j : j + block], center)) for j in range(0, len(b), block)]
    for i in range(0, len(a), block):
        rows, row_norms = _flat(a[i : i + block], mask_a[i : i + block], center)
        for j, others, other_norms in columns:
            distances[i : i + block, j : j + block] = _block_minimum(
                rows, row_norms, others, other_norms, a.shape[1], b.shape[1]
            )
    return distances


def _block_minimum(
    rows: NDArray[np.float32],
    row_norms: NDArray[np.float32],
    others: NDArray[np.float32],
    other_norms: NDArray[np.float32],
    row_instances: int,
    other_instances: int,
) -> NDArray[np.float32]:
    """(bags, bags) distances of one block; the axes of `rows` and `others` are instance by instance."""
    products = others @ rows.T  # (other instance * other bag, instance * bag)
    products *= -2
    products += other_norms[:, None]
    # Instances lie in front of bags, so both minima run over whole rows and stay vectorised.
    nearest = products.reshape(other_instances, -1, products.shape[1]).min(axis=0)
    nearest += row_norms
    nearest = nearest.reshape(len(nearest), row_instances, -1).min(axis=1)  # (other bag, bag)
    return np.sqrt(np.maximum(nearest, 0)).T


def _flat(
    bags: NDArray[np.float32], mask: NDArray[np.bool_], center: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(instances * bags, features) all first instances, then all second ones, and their squared norms.

    A padded instance is the center itself at an infinite squared norm: no minimum ever takes it.
    """
    moved = np.where(mask[..., None], bags - center, 0).transpose(1, 0, 2).reshape(-1, bags.shape[2])
    norms = np.einsum("if,if->i", moved, moved)
    return moved, np.where(mask.T.ravel(), norms, _FAR)


def _checked(name: str, bags: ArrayLike, mask: ArrayLike | None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    bags = np.asarray(bags, np.float32)
    if bags.ndim != 3:
        raise ValueError(f"`{name}` must be (bags, instances, features), received shape {bags.shape}")
    mask = np.ones(bags.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != bags.shape[:2]:
        raise ValueError(f"the mask of `{name}` must be {bags.shape[:2]}, received shape {mask.shape}")
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        raise ValueError(f"`{name}` must have a valid instance in every bag, received none in bag {empty[0]}")
    bad = np.argwhere(~np.isfinite(bags).all(axis=2) & mask)
    if len(bad):
        raise ValueError(f"`{name}` must be finite, received NaN or infinity in bag {bad[0][0]}, instance {bad[0][1]}")
    return bags, mask
