import dataclasses

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from kerastag.data.synthetic import synthetic_features
from kerastag.metrics import measure
from kerastag.recipes.bag_neighbours import Bags, Settings, distances, fit_predict, neighbour_scores


@pytest.fixture(scope="module")
def clips():
    return synthetic_features(700, num_classes=6), synthetic_features(250, num_classes=6, split="eval")


@pytest.fixture(scope="module")
def settings():
    return Settings(neighbours=(1, 5, 20, 60), costs=(0.1, 10.0), landmarks=150, components=60)


def test_neighbours_equal_scikit_learn(clips):
    train, evaluation = (Bags.of(split) for split in clips)
    between = distances(evaluation, train)
    for k, scores in neighbour_scores(evaluation, train, [7, 1]):
        peer = KNeighborsClassifier(k, metric="precomputed", weights="distance")
        peer.fit(distances(train, train), train.targets)
        expected = np.stack([of_class[:, 1] for of_class in peer.predict_proba(between)], axis=1)
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_bags_scale_the_8_bit_code_and_mask_short_clips(clips):
    bags = Bags.of(clips[0])
    np.testing.assert_array_equal(bags.embeddings, (clips[0].x.astype(np.float32) - 128) / 128)
    np.testing.assert_array_equal(bags.mask.sum(axis=1), clips[0].num_segments)
    assert bags.mask[:, 0].all()


@pytest.mark.parametrize("method", ["neighbours", "svm"])
def test_tags_far_better_than_chance(clips, settings, method):
    scores, chosen = fit_predict(*clips, dataclasses.replace(settings, method=method))
    found = measure(clips[1].targets, scores)
    chance = measure(clips[1].targets, np.random.default_rng(0).random(scores.shape))
    assert found.map > chance.map + 0.1
    assert chosen.get("k", 1) in settings.neighbours
    assert chosen.get("C", 0.1) in settings.costs


@pytest.mark.parametrize("method", ["neighbours", "svm"])
def test_evaluation_targets_are_never_looked_at(clips, settings, method):
    train, evaluation = clips
    settings = dataclasses.replace(settings, method=method)
    blind = dataclasses.replace(evaluation, targets=np.zeros_like(evaluation.targets))
    np.testing.assert_array_equal(fit_predict(train, blind, settings)[0], fit_predict(train, evaluation, settings)[0])


def test_a_class_without_training_clips_scores_a_constant(clips, settings):
    train, evaluation = clips
    targets = train.targets.copy()
    targets[:, 3] = False
    without = dataclasses.replace(train, targets=targets)
    for method in ("neighbours", "svm"):
        scores, _ = fit_predict(without, evaluation, dataclasses.replace(settings, method=method))
        assert np.ptp(scores[:, 3]) == 0
        assert np.ptp(scores[:, 2]) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out_share": 0.0}, "`held_out_share` .* received 0.0 of 700 training clips"),
        ({"held_out_share": 1.0}, "`held_out_share`"),
        ({"neighbours": (0, 5)}, r"`neighbours` must be 1 to 630, .* received \[0, 5\]"),
        ({"neighbours": (631,)}, "`neighbours` must be 1 to 630"),
        ({"method": "svm", "landmarks": 5001}, "`landmarks` must be 1 to 5000, received 5001"),
        ({"method": "forest"}, "`method` must be neighbours or svm, received 'forest'"),
    ],
)
def test_bad_settings_are_one_clear_line(clips, settings, change, message):
    with pytest.raises(ValueError, match=message):
        fit_predict(*clips, dataclasses.replace(settings, **change))
