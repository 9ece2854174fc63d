"""Synthetic clips: shapes, ground truth, missing labels, a long tail, and short events in a loud background."""

import numpy as np
import pytest

from kerastag.data.feature_pack_writer import verify_digest
from kerastag.data.packs import FeaturePack
from kerastag.data.synthetic_features import (
    SPLITS,
    make_synthetic_class_names,
    make_synthetic_features,
    write_synthetic_packs,
)
from kerastag.metrics import compute_metrics


@pytest.fixture(scope="module")
def train():
    return make_synthetic_features(3000, seed=4)


@pytest.fixture(scope="module")
def evaluation():
    return make_synthetic_features(1000, seed=4, split="eval")


def test_shapes_and_types(train):
    assert train.x.shape == (3000, 10, 128)
    assert train.x.dtype == np.uint8
    assert train.targets.shape == (3000, 40)
    assert train.events.shape == (3000, 10, 40)
    assert len(set(train.ids)) == len(train) == 3000
    assert {len(name) for name in train.ids} == {11}


def test_clips_are_a_function_of_seed_and_split():
    first = make_synthetic_features(50, seed=1)
    again = make_synthetic_features(50, seed=1)
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert not np.array_equal(first.x, make_synthetic_features(50, seed=2).x)
    splits = [make_synthetic_features(50, seed=1, split=split) for split in SPLITS]
    assert len({name for clips in splits for name in clips.ids}) == 150
    assert not np.array_equal(splits[0].x, splits[1].x)


def test_events_and_sound_are_in_valid_segments_only(train):
    valid = np.arange(10) < train.num_segments[:, None]
    assert not train.events[~valid].any()
    assert not train.x[~valid].any()
    assert train.x[valid].std(axis=1).min() > 5
    assert 0.04 < np.mean(train.num_segments < 10) < 0.12
    assert train.num_segments.min() >= 1


def test_evaluation_labels_are_the_ground_truth_and_some_training_labels_are_missing(train, evaluation):
    np.testing.assert_array_equal(evaluation.targets, evaluation.events.any(axis=1))
    ground_truth = train.events.any(axis=1)
    assert not (train.targets & ~ground_truth).any()
    assert 0.05 < 1 - train.targets.sum() / ground_truth.sum() < 0.15
    assert train.targets.any(axis=1).all()


def test_classes_have_a_long_tail_and_at_least_one_clip(train, evaluation):
    counts = train.targets.sum(axis=0)
    assert counts.min() > 0
    assert counts[0] > 8 * counts[-1]
    assert evaluation.targets.sum(axis=0).min() > 0


def test_most_events_are_short_and_some_fill_the_clip(evaluation):
    full = evaluation.num_segments == 10
    filled = evaluation.events[full].sum(axis=1)
    filled = filled[filled > 0]
    assert np.mean(filled <= 3) > 0.6
    assert set(filled) == set(range(1, 11))


def test_embeddings_use_the_code_of_audioset_and_rarely_saturate(train):
    valid = train.x[np.arange(10) < train.num_segments[:, None]]
    assert abs(valid.mean() - 127.5) < 3
    assert np.mean((valid == 0) | (valid == 255)) < 0.05


def test_splits_share_their_sounds_and_short_events_are_hidden_in_the_mean(train, evaluation):
    """Fit a detector to segments of one split: on the other, the best segment is far better than the mean."""
    segments = (train.x[:1500].reshape(-1, 128).astype(np.float64) - 128) / 128
    detectors = np.linalg.lstsq(segments, train.events[:1500, :, :4].reshape(-1, 4).astype(np.float64), rcond=None)[0]
    eval_segments = (evaluation.x.astype(np.float64) - 128) / 128
    valid = np.arange(10) < evaluation.num_segments[:, None]
    mean = (eval_segments * valid[..., None]).sum(axis=1) / valid.sum(axis=1, keepdims=True)
    best = np.where(valid[..., None], eval_segments @ detectors, -np.inf).max(axis=1)
    by_best = compute_metrics(evaluation.targets[:, :4], best).map
    by_mean = compute_metrics(evaluation.targets[:, :4], mean @ detectors).map
    assert by_best > 0.5
    assert by_best > by_mean + 0.03


def test_any_size_is_made():
    tiny = make_synthetic_features(1, num_classes=1, num_features=1, seed=9)
    assert tiny.x.shape == (1, 10, 1)
    assert tiny.targets.all()
    wide = make_synthetic_features(20, num_classes=527, num_features=16, split="eval")
    assert wide.events.shape == (20, 10, 527)
    assert wide.targets.any(axis=1).all()


def test_packs_hold_the_same_clips(tmp_path):
    paths = write_synthetic_packs(tmp_path / "new", num_train=90, num_eval=40, num_classes=6, seed=3)
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == ["bal_train.h5", "eval.h5"]
    for split, path in paths.items():
        clips = make_synthetic_features(90 if split == "bal_train" else 40, num_classes=6, seed=3, split=split)
        verify_digest(path)
        with FeaturePack(path) as pack:
            np.testing.assert_array_equal(pack.x, clips.x)
            np.testing.assert_array_equal(pack.targets, clips.targets)
            np.testing.assert_array_equal(pack.lengths, clips.num_segments)
            np.testing.assert_array_equal(pack.ids, clips.ids)
            assert pack.attributes["split"] == split


def test_class_names_are_distinct():
    assert make_synthetic_class_names(3) == ["Sound 01", "Sound 02", "Sound 03"]
    assert len(set(make_synthetic_class_names(527))) == 527


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_clips": 0}, "`num_clips` must be at least 1; received: 0"),
        ({"num_classes": 0}, "`num_classes` must be at least 1"),
        ({"num_features": -1}, "`num_features` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0; received: -1"),
        ({"split": "test"}, "`split` must be one of bal_train, unbal_train, eval; received: 'test'"),
    ],
)
def test_faulty_arguments_are_refused(change, message):
    arguments = {"num_clips": 5, **change}
    with pytest.raises(ValueError, match=message):
        make_synthetic_features(arguments.pop("num_clips"), **arguments)
