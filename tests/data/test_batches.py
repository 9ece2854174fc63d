"""Batches of embeddings: scaling, padding, single segments and mixup, compared with independent formulas."""

from dataclasses import replace

import numpy as np
import pytest

from kerastag.data.batches import EmbeddingBatches, scale
from kerastag.data.feature_pack_writer import FeaturePackWriter
from kerastag.data.packs import FeaturePack
from kerastag.data.sampler import BalancedSampler
from kerastag.data.synthetic_features import write_synthetic_packs


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    return write_synthetic_packs(folder, num_train=120, num_eval=2, num_classes=5, num_features=6)["bal_train"]


@pytest.fixture(scope="module")
def batches(path):
    pack = FeaturePack(path)
    return EmbeddingBatches(pack, BalancedSampler(pack.targets, 64, seed=9))


def scale_by_hand(pack, clips):
    """Compute `(x - 128) / 128` in float64, which float32 represents exactly, and set the padding to zero."""
    scaled = (pack.x[clips].astype(np.float64) - 128) / 128
    scaled[np.arange(10) >= pack.lengths[clips][:, None]] = 0
    return scaled


def test_every_code_is_scaled_exactly():
    codes = np.arange(256, dtype=np.uint8).reshape(1, 2, 128)
    scaled = scale(codes, np.array([2]))
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled.ravel().astype(np.float64), (np.arange(256) - 128) / 128)
    assert (scaled.min(), scaled.max()) == (-1.0, 127 / 128)


def test_padding_is_zero_after_scaling_and_the_stored_embeddings_stay():
    x = np.full((3, 4, 2), 7, np.uint8)
    before = x.copy()
    scaled = scale(x, np.array([4, 1, 3], np.uint8))
    assert ((scaled != 0).all(axis=2) == np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]], bool)).all()
    assert (scaled[scaled.any(axis=2)] == (7 - 128) / 128).all()
    np.testing.assert_array_equal(x, before)
    floats = np.ones((1, 2, 1), np.float32)
    assert scale(floats, np.array([1])).ravel().tolist() == [1, 0]
    assert floats.ravel().tolist() == [1, 1]


def test_a_batch_holds_the_clips_of_the_sampler(batches):
    num_short = 0
    for index in (0, 1, 7):
        clips = batches.sampler.batch(index)
        embedding, target = batches.batch(index)
        assert (embedding.dtype, target.dtype) == (np.float32, np.float32)
        np.testing.assert_array_equal(embedding, scale_by_hand(batches.pack, clips))
        np.testing.assert_array_equal(target, batches.pack.targets[clips])
        num_short += int((batches.pack.lengths[clips] < 10).sum())
    assert num_short  # Otherwise the padding is not tested.


def test_only_the_given_rows_are_drawn(batches):
    rows = np.arange(119, 40, -2)
    sampler = BalancedSampler(batches.pack.targets[rows], 32, seed=1, allow_empty_classes=True)
    embedding, target = EmbeddingBatches(batches.pack, sampler, rows).batch(2)
    clips = rows[sampler.batch(2)]
    np.testing.assert_array_equal(embedding, scale_by_hand(batches.pack, clips))
    np.testing.assert_array_equal(target, batches.pack.targets[clips])


def test_single_segments_are_valid_and_drawn_equally_often(batches):
    single = replace(batches, single_segments=True)
    counts = np.zeros(10)
    for index in range(60):
        clips = batches.sampler.batch(index)
        embedding, target = single.batch(index)
        assert embedding.shape == (64, 1, 6)
        np.testing.assert_array_equal(target, batches.pack.targets[clips])
        equal = (embedding == scale_by_hand(batches.pack, clips)).all(axis=2)
        valid = np.arange(10) < batches.pack.lengths[clips][:, None]
        assert (equal & valid).any(axis=1).all()
        full = (batches.pack.lengths[clips] == 10) & (equal.sum(axis=1) == 1)
        counts += equal[full].sum(axis=0)
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()


def test_mixup_follows_its_formula(batches):
    """Find l and the other clip of every mixture, instead of assuming them."""
    alpha = 0.5
    mixed = replace(batches, mixup=alpha)
    shares = []
    for index in range(3):
        plain, plain_target = (array.astype(np.float64) for array in batches.batch(index))
        embedding, target = mixed.batch(index)
        assert (embedding.dtype, target.dtype) == (np.float32, np.float32)
        others = []
        for i in range(64):
            # l x_i + (1 - l) x_j - x_j = l (x_i - x_j): the best l for every j, then the j without an error.
            difference = (plain[i] - plain).reshape(64, -1)
            rest = (embedding[i] - plain).reshape(64, -1)
            share = (difference * rest).sum(axis=1) / np.maximum((difference**2).sum(axis=1), 1e-12)
            error = np.abs(rest - share[:, None] * difference).max(axis=1)
            j = int(np.argmin(np.where(np.arange(64) == i, np.inf, error)))
            alone = np.abs(embedding[i] - plain[i]).max() < 1e-6  # mixed with itself, or l = 1
            assert alone or (error[j] < 1e-6 and -1e-6 <= share[j] <= 1 + 1e-6)
            if not alone:
                expected = share[j] * plain_target[i] + (1 - share[j]) * plain_target[j]
                np.testing.assert_allclose(target[i], expected, atol=1e-5)
                shares.append(share[j])
                others.append(j)
        assert len(set(others)) > 0.5 * len(others)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert abs(np.mean(shares) - 0.5) < 0.1
    assert abs(np.var(shares) - 1 / (4 * (2 * alpha + 1))) < 0.03


@pytest.mark.parametrize("options", [{}, {"single_segments": True}, {"mixup": 1.0}])
def test_a_batch_does_not_depend_on_earlier_batches(batches, path, options):
    one = replace(batches, **options)
    expected = [one.batch(index) for index in range(6)]
    pack = FeaturePack(path)
    fresh = EmbeddingBatches(pack, BalancedSampler(pack.targets, 64, seed=9), **options)
    for index in (4, 0, 5):
        for array, expected_array in zip(fresh.batch(index), expected[index], strict=True):
            np.testing.assert_array_equal(array, expected_array)
    assert not np.array_equal(expected[0][0], expected[1][0])
    other = EmbeddingBatches(pack, BalancedSampler(pack.targets, 64, seed=10), **options)
    assert not np.array_equal(other.batch(0)[0], expected[0][0])


@pytest.mark.parametrize("options", [{}, {"single_segments": True}, {"mixup": 1.0}])
def test_batches_from_disk_equal_batches_from_memory(batches, path, options):
    in_memory = replace(batches, **options)
    with FeaturePack(path, in_memory=False) as pack:
        assert not isinstance(pack.x, np.ndarray)
        from_disk = EmbeddingBatches(pack, batches.sampler, **options)
        for index in range(3):
            for array, expected in zip(from_disk.batch(index), in_memory.batch(index), strict=True):
                np.testing.assert_array_equal(array, expected)


def test_float_embeddings_are_not_scaled(tmp_path):
    x = np.random.default_rng(0).normal(0, 300, (9, 4, 3)).astype(np.float32)
    lengths = np.array([4, 4, 2, 1, 4, 3, 4, 4, 4])
    with FeaturePackWriter(tmp_path / "f.h5", num_classes=2, num_segments=4, num_features=3, dtype="float32") as writer:
        writer.append(x, lengths, np.eye(2, dtype=bool)[[0, 1] * 4 + [0]], [f"clip{i}" for i in range(9)])
        writer.finish()
    pack = FeaturePack(tmp_path / "f.h5")
    batches = EmbeddingBatches(pack, BalancedSampler(pack.targets, 20))
    embedding, _ = batches.batch(0)
    clips = batches.sampler.batch(0)
    x[np.arange(4) >= lengths[:, None]] = 0
    np.testing.assert_array_equal(embedding, x[clips])


def test_negative_mixup_is_refused(batches):
    with pytest.raises(ValueError, match="`mixup` must be at least 0; received: -1"):
        replace(batches, mixup=-1)
