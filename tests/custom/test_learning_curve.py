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
    ("max_seconds", "num_folds"), [(0, 2), pytest.param(60, 3, marks=pytest.mark.slow)], ids=["two folds", "all folds"]
)
def test_heads_are_trained_on_parts_of_every_class(max_seconds, num_folds):
    trainer = create_trainer()
    held_out = trainer.clips.targets[trainer.clips.recordings] * np.float32(0.8) + 0.1
    curve = measure_learning_curve(trainer, ["seconds"] * 3, held_out, max_seconds)
    assert curve["folds"] == num_folds  # at least two, however short the time is
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


def make_rising(*missing):
    """Make the average precision of classes that miss so much with 40 recordings, and twice as much with a quarter."""
    noise = np.array([-0.01, 0, 0.01])
    return [1 - share * np.array([2, 2**0.5, 1])[:, None] * (1 + noise) for share in missing]


def test_a_class_that_misses_most_with_few_recordings_would_gain_most():
    curve = make_curve(*make_rising(0.1, 0.3, 0.2))
    for point in curve["points"]:
        point["clips"][2] /= 4
    gains = estimate_gains(curve)
    assert [gain["class"] for gain in gains] == [2, 1, 0]
    # The missing part shrinks like 1 / sqrt(n): with 10 more of 10 recordings to 0.71, of 40 to 0.89.
    assert gains[0]["gain"] == pytest.approx(0.2 * (1 - 0.5**0.5), abs=1e-4)
    assert gains[1]["gain"] == pytest.approx(0.3 * (1 - 0.8**0.5), abs=1e-4)
    assert gains[0]["average_precision"] == pytest.approx(0.8)
    assert gains[0]["clips"] == 10


def test_nothing_is_claimed_where_more_recordings_do_not_help():
    random = np.random.default_rng(0)
    assert estimate_gains(make_curve(*(0.7 + 0.1 * random.normal(size=(3, 3)) for _ in range(5)))) == []
    assert estimate_gains(make_curve(*(precision[:, :1] for precision in make_rising(0.1, 0.3)))) == []  # one fold
    assert estimate_gains(make_curve(*make_rising(0.0002, 0.0001))) == []  # nearly perfect


def test_classes_that_some_folds_lack_are_estimated_from_the_others():
    curve = make_curve(*make_rising(0.1, 0.3, 0.2))
    for point in curve["points"]:
        point["average_precision"][0][1] = point["average_precision"][1][1] = None
        for fold in point["average_precision"]:
            fold[2] = None
    assert [gain["class"] for gain in estimate_gains(curve)] == [1, 0]
