import dataclasses
import re

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from kerastag.data.synthetic import synthetic_features, write_synthetic_packs
from kerastag.metrics import compute_metrics
from kerastag.recipes.bag_neighbors import Bags, Settings, distances, fit_predict, main, neighbor_scores
from kerastag.recipes.tables import main as tables


@pytest.fixture(scope="module")
def clips():
    splits = synthetic_features(700, num_classes=6), synthetic_features(250, num_classes=6, split="eval")
    return tuple(Bags.of(split.x, split.num_segments, split.targets) for split in splits)


@pytest.fixture(scope="module")
def settings():
    return Settings(neighbors=(1, 5, 20, 60), costs=(0.1, 10.0), landmarks=150, components=60)


def test_neighbors_equal_scikit_learn(clips):
    train, evaluation = clips
    between = distances(evaluation, train)
    for k, scores in neighbor_scores(evaluation, train, [7, 1]):
        peer = KNeighborsClassifier(k, metric="precomputed", weights="distance")
        peer.fit(distances(train, train), train.targets)
        expected = np.stack([of_class[:, 1] for of_class in peer.predict_proba(between)], axis=1)
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_bags_are_scaled_and_masked():
    split = synthetic_features(200, num_classes=3)
    bags = Bags.of(split.x, split.num_segments, split.targets)
    scaled = (split.x.astype(np.float32) - 128) / 128
    np.testing.assert_array_equal(bags.embeddings[bags.mask], scaled[bags.mask])
    np.testing.assert_array_equal(bags.mask.sum(axis=1), split.num_segments)
    assert bags.mask[:, 0].all()


@pytest.mark.parametrize("method", ["neighbors", "svm"])
def test_tags_far_better_than_chance(clips, settings, method):
    scores, chosen = fit_predict(*clips, dataclasses.replace(settings, method=method))
    found = compute_metrics(clips[1].targets, scores)
    chance = compute_metrics(clips[1].targets, np.random.default_rng(0).random(scores.shape))
    assert found.map > chance.map + 0.1
    assert chosen.get("k", 1) in settings.neighbors
    assert chosen.get("C", 0.1) in settings.costs


@pytest.mark.parametrize("method", ["neighbors", "svm"])
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
    for method in ("neighbors", "svm"):
        scores, _ = fit_predict(without, evaluation, dataclasses.replace(settings, method=method))
        assert np.ptp(scores[:, 3]) == 0
        assert np.ptp(scores[:, 2]) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selection_share": 0.0}, "`selection_share` must be above 0 and below 1, received 0.0"),
        ({"selection_share": 1.0}, "`selection_share`"),
        ({"neighbors": (0, 5)}, r"`neighbors` must be 1 to \d+, .* received \[0, 5\]"),
        ({"neighbors": (700,)}, r"`neighbors` must be 1 to \d+, .* received \[700\]"),
        ({"method": "svm", "landmarks": 5001}, "`landmarks` must be 1 to 5000, received 5001"),
        ({"method": "forest"}, "`method` must be neighbors or svm, received 'forest'"),
    ],
)
def test_bad_settings_are_one_clear_line(clips, settings, change, message):
    with pytest.raises(ValueError, match=message):
        fit_predict(*clips, dataclasses.replace(settings, **change))


def test_the_command_leaves_a_run_that_is_tabulated(tmp_path, capsys):
    write_synthetic_packs(tmp_path / "packs", num_train=400, num_eval=150, num_classes=5)
    flags = ["--data_dir", str(tmp_path / "packs"), "--run_dir", str(tmp_path / "run"), "--neighbors", "[5,20]"]
    assert main(flags) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"mAP 0\.\d{4}  mAUC 0\.\d{4}  d-prime \d\.\d{3}", line)
    assert tables([str(tmp_path / "run"), "--output", str(tmp_path / "tables")]) == 0
    (row,) = (row for row in capsys.readouterr().out.splitlines() if "nearest neighbors" in row)
    assert f"| {line[4:10]} |" in row


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert main(["--data_dir", str(tmp_path), "--run_dir", str(tmp_path / "run")]) == 1
    assert "no bal_train.h5" in capsys.readouterr().err
