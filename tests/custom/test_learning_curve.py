"""How average precision grows with the number of recordings, with real heads on synthetic embeddings."""

import numpy as np
import pytest

from kerastag.custom.clips import Clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import Embeddings
from kerastag.custom.learning_curve import estimate_gains, measure_learning_curve
from kerastag.custom.tagger import TaggerTrainer


def create_trainer(num_clips=48, num_background=4):
    """Create a trainer of two classes of recordings in three folds, and background that is always trained on."""
    random = np.random.default_rng(0)
    classes = np.concatenate([np.arange(num_clips) % 2, np.full(num_background, 2)])
    centers = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
    bags = [centers[k] + random.normal(size=(3, 4)).astype(np.float32) for k in classes]
    bags = [bag.astype(np.float32) for bag in bags]
    folds = np.concatenate([np.arange(num_clips) // 2 % 3, np.full(num_background, -1)])
    targets = np.eye(3, dtype=bool)[classes]
    names = ("hum", "click", "background")
    clips = Clips("sounds", (), names, (np.zeros(8),) * len(classes), targets, folds, np.ones_like(targets))
    ones = np.ones(len(classes), int)
    embeddings = Embeddings({"frames": bags, "seconds": bags}, np.stack([bag[0] for bag in bags]), ones, ones > 0, ())
    config = CustomConfig(audio_dir="sounds", units=4, steps=10, batch_size=8, folds=3)
    return TaggerTrainer(config, None, clips, embeddings)  # type: ignore[arg-type]  # heads need no backbone


@pytest.mark.parametrize(
    ("max_seconds", "num_folds"), [(0, 1), pytest.param(60, 3, marks=pytest.mark.slow)], ids=["one fold", "all folds"]
)
def test_heads_are_trained_on_parts_of_every_class(max_seconds, num_folds):
    trainer = create_trainer()
    held_out = trainer.clips.targets[trainer.clips.recordings] * np.float32(0.8) + 0.1
    curve = measure_learning_curve(trainer, ["seconds"] * 3, held_out, max_seconds)
    assert curve["folds"] == num_folds  # at least one, however short the time is
    assert [point["share"] for point in curve["points"]] == [0.25, 0.5, 1.0]
    # Of 24 recordings of a class, 16 are outside of a fold; all background is always trained on.
    assert [point["clips"] for point in curve["points"]] == [[4, 4, 4], [8, 8, 4], [16, 16, 4]]
    precision = np.array([point["average_precision"] for point in curve["points"]], float)
    assert precision.shape == (3, num_folds, 3)
    assert np.isnan(precision[:, :, 2]).all()  # No recording is background.
    assert (precision[:2, :, :2] > 0.5).all()
    assert (precision[2, :, :2] == 1).all()  # the predictions of the cross-validation, not another head


def test_few_recordings_have_no_curve():
    few = create_trainer(num_clips=10)
    assert measure_learning_curve(few, ["seconds"] * 3, np.zeros((10, 3), np.float32)) == {}


def make_curve(*precision_by_class):
    """Make a curve of classes with 10, 20 and 40 recordings, from arrays `(points, folds)`."""
    arrays = np.array(precision_by_class, float)  # (classes, points, folds)
    points = [
        {"share": share, "clips": [40 * share] * len(arrays), "average_precision": arrays[:, i].T.tolist()}
        for i, share in enumerate((0.25, 0.5, 1.0))
    ]
    return {"folds": arrays.shape[2], "seconds": 1.0, "points": points}


def test_the_class_that_rises_most_would_gain_most():
    noise = np.array([-0.01, 0, 0.01])
    rising, slow, flat = (
        np.array([a, a + b, a + 2 * b])[:, None] + noise for a, b in ((0.5, 0.1), (0.8, 0.04), (0.9, 0))
    )
    first, second = estimate_gains(make_curve(slow, flat, rising))
    assert (first["class"], second["class"]) == (2, 0)
    # Each doubling gains 0.1, and ten more of 40 are a third of a doubling.
    assert first["gain"] == pytest.approx(0.1 * np.log2(1.25))
    assert first["average_precision"] == pytest.approx(0.7)
    assert first["clips"] == 40


def test_a_gain_within_its_uncertainty_is_not_claimed():
    random = np.random.default_rng(0)
    assert estimate_gains(make_curve(*(0.7 + 0.1 * random.normal(size=(3, 3)) for _ in range(5)))) == []
    rising = np.array([0.4, 0.6, 0.8])[:, None]
    assert estimate_gains(make_curve(rising)) == []  # one fold has no uncertainty


def test_a_gain_ends_at_one():
    rising = np.array([0.5, 0.75, 0.99])[:, None] + np.array([-0.001, 0.001])
    (gain,) = estimate_gains(make_curve(rising))
    assert gain["average_precision"] + gain["gain"] <= 1
