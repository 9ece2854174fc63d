import numpy as np
import pytest

from kerastag.data import hausdorff
from kerastag.data.hausdorff import compute_hausdorff_distances


def make_bags(seed, num_bags, instances, features=16, offset=0.0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((num_bags, instances, features)) + offset).astype(np.float32)
    return x, np.arange(instances) < rng.integers(1, instances + 1, (num_bags, 1))


def compute_pair_by_pair(a, b, mask_a, mask_b):
    """Compute the formula in float64, one pair of instances after another."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    distances = np.empty((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            distances[i, j] = min(np.linalg.norm(x - y) for x in a[i][mask_a[i]] for y in b[j][mask_b[j]])
    return distances


@pytest.mark.parametrize(("block", "offset"), [(1, 0.0), (4, 30.0), (7, 30.0), (128, 0.0)])
def test_equals_the_formula_compute_pair_by_pair(block, offset, monkeypatch):
    monkeypatch.setattr(hausdorff, "_BLOCK", block)
    a, mask_a = make_bags(0, 13, 5, offset=offset)
    b, mask_b = make_bags(1, 9, 3, offset=offset)
    distances = compute_hausdorff_distances(a, b, mask_a, mask_b)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(distances, compute_pair_by_pair(a, b, mask_a, mask_b), rtol=2e-5)


def test_without_masks_all_instances_are_valid():
    (a, _), (b, _) = make_bags(2, 4, 3), make_bags(3, 5, 6)
    expected = compute_pair_by_pair(a, b, np.ones((4, 3), bool), np.ones((5, 6), bool))
    np.testing.assert_allclose(compute_hausdorff_distances(a, b), expected, rtol=2e-5)


def test_masked_instances_change_nothing():
    (a, mask_a), (b, mask_b) = make_bags(4, 6, 4), make_bags(5, 7, 4)
    clean = compute_hausdorff_distances(a, b, mask_a, mask_b)
    for value in (0.0, 1e6, np.nan, np.inf):
        dirty_a, dirty_b = a.copy(), b.copy()
        dirty_a[~mask_a], dirty_b[~mask_b] = value, value
        np.testing.assert_array_equal(compute_hausdorff_distances(dirty_a, dirty_b, mask_a, mask_b), clean)


def test_bags_with_a_common_instance_have_distance_zero():
    (a, _), (b, _) = make_bags(6, 3, 4), make_bags(7, 3, 4)
    b[2, 1] = a[0, 3]
    distances = compute_hausdorff_distances(a, b)
    assert distances[0, 2] == pytest.approx(0, abs=2e-3)
    np.testing.assert_allclose(distances, compute_hausdorff_distances(b, a).T, rtol=1e-4, atol=2e-3)
    assert compute_hausdorff_distances(a[:0], a).shape == (0, 3)
    assert compute_hausdorff_distances(a, a[:0]).shape == (3, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bags_a": np.zeros((3, 4))}, r"`bags_a` must have shape \(bags, instances, features\); received: \(3, 4\)"),
        ({"bags_b": np.zeros((2, 4, 5))}, "the same number of features; received: 16 and 5"),
        ({"mask_a": np.ones((3, 5), bool)}, r"mask of `bags_a` must have shape \(3, 4\); received: \(3, 5\)"),
        ({"mask_b": np.eye(3, 4, dtype=bool) & (np.arange(3)[:, None] != 1)}, "`bags_b` .* none in bag 1"),
        ({"bags_a": np.full((3, 4, 16), np.nan)}, "`bags_a` must be finite; .* bag 0, instance 0"),
    ],
)
def test_faulty_arguments_are_refused(change, message):
    a, b = make_bags(9, 3, 4)[0], make_bags(10, 3, 4)[0]
    with pytest.raises(ValueError, match=message):
        compute_hausdorff_distances(**{"bags_a": a, "bags_b": b, **change})
