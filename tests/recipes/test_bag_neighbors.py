"""Tests of bag-space tagging by nearest neighbors and by support vector machines."""

import dataclasses
import re

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from kerastag.cli import main as kerastag
from kerastag.data.synthetic_features import make_synthetic_features, write_synthetic_packs
from kerastag.metrics import compute_metrics
from kerastag.recipes.bag_neighbors import BagConfig, Bags, compute_distances, fit_predict, main, score_by_neighbors


@pytest.fixture(scope="module")
def clips():
    splits = make_synthetic_features(700, num_classes=6), make_synthetic_features(250, num_classes=6, split="eval")
    return tuple(Bags.from_rows(split.x, split.num_segments, split.targets) for split in splits)


@pytest.fixture(scope="module")
def config():
    return BagConfig(neighbors=(1, 5, 20, 60), costs=(0.1, 10.0), landmarks=150, components=60)


def test_neighbors_equal_scikit_learn(clips):
    train, evaluation = clips
    distances = compute_distances(evaluation, train)
    for k, scores in score_by_neighbors(evaluation, train, [7, 1]):
        peer = KNeighborsClassifier(k, metric="precomputed", weights="distance")
        peer.fit(compute_distances(train, train), train.targets)
        expected = np.stack([probabilities[:, 1] for probabilities in peer.predict_proba(distances)], axis=1)
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_bags_are_scaled_and_masked():
    split = make_synthetic_features(200, num_classes=3)
    bags = Bags.from_rows(split.x, split.num_segments, split.targets)
    scaled = (split.x.astype(np.float32) - 128) / 128
    np.testing.assert_array_equal(bags.embeddings[bags.mask], scaled[bags.mask])
    np.testing.assert_array_equal(bags.mask.sum(axis=1), split.num_segments)
    assert bags.mask[:, 0].all()


@pytest.mark.parametrize("method", ["neighbors", "svm"])
def test_scores_are_much_better_than_chance(clips, config, method):
    scores, chosen = fit_predict(*clips, dataclasses.replace(config, method=method))
    metrics = compute_metrics(clips[1].targets, scores)
    chance = compute_metrics(clips[1].targets, np.random.default_rng(0).random(scores.shape))
    assert metrics.map > chance.map + 0.1
    assert chosen.get("k", 1) in config.neighbors
    assert chosen.get("C", 0.1) in config.costs


@pytest.mark.parametrize("method", ["neighbors", "svm"])
def test_the_targets_of_evaluation_clips_are_not_used(clips, config, method):
    train, evaluation = clips
    config = dataclasses.replace(config, method=method)
    blind = dataclasses.replace(evaluation, targets=np.zeros_like(evaluation.targets))
    np.testing.assert_array_equal(fit_predict(train, blind, config)[0], fit_predict(train, evaluation, config)[0])


def test_a_class_without_training_clips_has_a_constant_score(clips, config):
    train, evaluation = clips
    targets = train.targets.copy()
    targets[:, 3] = False
    without = dataclasses.replace(train, targets=targets)
    for method in ("neighbors", "svm"):
        scores, _ = fit_predict(without, evaluation, dataclasses.replace(config, method=method))
        assert np.ptp(scores[:, 3]) == 0
        assert np.ptp(scores[:, 2]) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selection_share": 0.0}, "`selection_share` must be above 0 and below 1; received: 0.0"),
        ({"selection_share": 1.0}, "`selection_share`"),
        ({"neighbors": (0, 5)}, r"`neighbors` must be 1 to \d+, .* received: \[0, 5\]"),
        ({"neighbors": (700,)}, r"`neighbors` must be 1 to \d+, .* received: \[700\]"),
        ({"method": "svm", "landmarks": 5001}, "`landmarks` must be 1 to 5000; received: 5001"),
        ({"method": "forest"}, "`method` must be neighbors or svm; received: 'forest'"),
    ],
)
def test_an_invalid_configuration_is_named(clips, config, change, message):
    with pytest.raises(ValueError, match=message):
        fit_predict(*clips, dataclasses.replace(config, **change))


def test_the_command_writes_a_run_that_can_be_tabulated(tmp_path, capsys):
    write_synthetic_packs(tmp_path / "packs", num_train=400, num_eval=150, num_classes=5)
    flags = ["--data-dir", str(tmp_path / "packs"), "--run-dir", str(tmp_path / "run"), "--neighbors", "[5,20]"]
    assert main(flags) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"mAP 0\.\d{4}  mAUC 0\.\d{4}  d-prime \d\.\d{3}", line)
    assert kerastag(["tables", str(tmp_path / "run"), "--output", str(tmp_path / "tables")]) == 0
    (row,) = (row for row in capsys.readouterr().out.splitlines() if "nearest neighbors" in row)
    assert f"| {line[4:10]} |" in row


def test_an_error_of_the_command_is_one_line(tmp_path, capsys):
    assert main(["--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run")]) == 1
    assert "no bal_train.h5" in capsys.readouterr().err
