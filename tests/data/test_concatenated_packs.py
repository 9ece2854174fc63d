"""Several packs as one: every row where it belongs, and packs that do not fit refused by name."""

import numpy as np
import pytest

from kerastag.data.feature_pack_writer import FeaturePackWriter
from kerastag.data.packs import ConcatenatedPacks, FeaturePack

COUNTS = (5, 1, 70)


def write(path, num_clips, seed, num_classes=3, features=4, dtype="uint8"):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (num_clips, 6, features)).astype(dtype)
    with FeaturePackWriter(path, num_classes=num_classes, num_segments=6, num_features=features, dtype=dtype) as writer:
        targets = random.random((num_clips, num_classes)) < 0.5
        writer.append(x, random.integers(1, 7, num_clips), targets, [f"{seed}_{i}" for i in range(num_clips)])
        writer.finish()
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["in memory", "on disk"])
def packs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined")
    opened = [
        FeaturePack(write(folder / f"{seed}.h5", count, seed), in_memory=request.param)
        for seed, count in enumerate(COUNTS)
    ]
    yield opened
    for pack in opened:
        pack.close()


def test_rows_are_those_of_the_packs_one_after_the_other(packs):
    joined = ConcatenatedPacks(packs)
    assert len(joined) == sum(COUNTS)
    assert joined.x_shape == (76, 6, 4)
    assert joined.num_classes == 3
    parts = [pack.rows(np.arange(len(pack))) for pack in packs]
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    np.testing.assert_array_equal(joined.lengths, whole[1])
    np.testing.assert_array_equal(joined.targets, whole[2])
    # Any order, across the seams, and repeated.
    for indices in (np.arange(76), np.array([75, 0, 5, 4, 6, 5, 5, 75]), np.array([5]), np.array([], np.int64)):
        for got, wanted in zip(joined.rows(indices), whole, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted[indices])


def test_one_pack_is_itself(packs):
    indices = np.array([3, 3, 69])
    for got, wanted in zip(ConcatenatedPacks(packs[2:]).rows(indices), packs[2].rows(indices), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("wrong", [-1, 76])
def test_a_row_that_is_not_there_is_refused(packs, wrong):
    with pytest.raises(IndexError, match=rf"`indices` must lie in \[0, 76\), received {wrong}"):
        ConcatenatedPacks(packs).rows(np.array([0, wrong]))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"num_classes": 4}, r"\(6, 4, 4, 'uint8'\)"),
        ({"features": 8}, r"\(6, 8, 3, 'uint8'\)"),
        ({"dtype": "float32"}, r"\(6, 4, 3, 'float32'\)"),
    ],
)
def test_packs_that_do_not_fit_are_named(packs, tmp_path, change, found):
    other = FeaturePack(write(tmp_path / "other.h5", 2, 9, **change))
    with pytest.raises(ValueError, match=rf"other.h5: .* must be those of .*0.h5, \(6, 4, 3, 'uint8'\); found {found}"):
        ConcatenatedPacks([packs[0], other])


def test_no_pack_is_refused():
    with pytest.raises(ValueError, match="`packs` must hold at least one pack"):
        ConcatenatedPacks([])
