"""Concatenated packs: every row is in its place, and packs that do not fit are named."""

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
    folder = tmp_path_factory.mktemp("packs")
    opened = [
        FeaturePack(write(folder / f"{seed}.h5", count, seed), in_memory=request.param)
        for seed, count in enumerate(COUNTS)
    ]
    yield opened
    for pack in opened:
        pack.close()


def test_rows_of_the_packs_follow_one_another(packs):
    concatenated = ConcatenatedPacks(packs)
    assert len(concatenated) == sum(COUNTS)
    assert concatenated.x_shape == (76, 6, 4)
    assert concatenated.num_classes == 3
    parts = [pack.rows(np.arange(len(pack))) for pack in packs]
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    np.testing.assert_array_equal(concatenated.lengths, whole[1])
    np.testing.assert_array_equal(concatenated.targets, whole[2])
    # In any order, across packs, and repeated.
    for indices in (np.arange(76), np.array([75, 0, 5, 4, 6, 5, 5, 75]), np.array([5]), np.array([], np.int64)):
        for column, expected in zip(concatenated.rows(indices), whole, strict=True):
            assert column.dtype == expected.dtype
            np.testing.assert_array_equal(column, expected[indices])


def test_one_pack_is_read_as_it_is(packs):
    indices = np.array([3, 3, 69])
    for column, expected in zip(ConcatenatedPacks(packs[2:]).rows(indices), packs[2].rows(indices), strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("wrong", [-1, 76])
def test_a_row_out_of_range_is_refused(packs, wrong):
    with pytest.raises(IndexError, match=rf"`indices` must be in \[0, 76\); received: {wrong}"):
        ConcatenatedPacks(packs).rows(np.array([0, wrong]))


@pytest.mark.parametrize(
    ("change", "layout"),
    [
        ({"num_classes": 4}, "uint8 embeddings of 6 segments and 4 features with 4 classes"),
        ({"features": 8}, "uint8 embeddings of 6 segments and 8 features with 3 classes"),
        ({"dtype": "float32"}, "float32 embeddings of 6 segments and 4 features with 3 classes"),
    ],
)
def test_a_pack_with_another_layout_is_named(packs, tmp_path, change, layout):
    other = FeaturePack(write(tmp_path / "other.h5", 2, 9, **change))
    with pytest.raises(ValueError, match=rf"other.h5: must hold uint8 .* as .*0.h5; received: {layout}"):
        ConcatenatedPacks([packs[0], other])


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="`packs` must hold at least one pack"):
        ConcatenatedPacks([])
