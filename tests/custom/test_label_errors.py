"""Labels that look wrong: confident learning on held-out predictions."""

import numpy as np
import pytest
from custom.saved_runs import draw_predictions

from kerastag.custom.label_errors import LabelError, find_label_errors


def find_with_loops(labels, probabilities):
    """Return the rows off the diagonal of the confident joint and their classes, as in the paper, in float64."""
    num_classes = probabilities.shape[1]
    thresholds = [
        np.mean([p[j] for p, y in zip(probabilities, labels, strict=True) if y == j]) for j in range(num_classes)
    ]
    errors = {}
    for row, (y, p) in enumerate(zip(labels, probabilities, strict=True)):
        confident = [j for j in range(num_classes) if p[j] >= thresholds[j]]
        if confident and (j := max(confident, key=lambda j: p[j])) != y:
            errors[row] = j
    return errors


def test_wrong_labels_are_listed_and_right_ones_are_not():
    true_classes = np.arange(200) % 5
    probabilities = draw_predictions(np.eye(5, dtype=bool)[true_classes], sharpness=4)[0].astype(float)
    labels = true_classes.copy()
    wrong = np.random.default_rng(1).choice(200, 12, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 5
    errors = find_label_errors(np.eye(5, dtype=bool)[labels], probabilities)
    rows = {error.row for error in errors}
    assert rows <= set(wrong.tolist())
    assert len(rows) >= 11  # of 12: a recording may be just below the mean of its class
    assert all(error.suggestion == true_classes[error.row] for error in errors)
    assert all(error.label == labels[error.row] for error in errors)
    margins = [error.margin for error in errors]
    assert margins == sorted(margins, reverse=True)


def test_errors_are_those_of_the_published_rule():
    random = np.random.default_rng(3)
    labels, probabilities = random.integers(4, size=60), random.random((60, 4))
    errors = find_label_errors(np.eye(4, dtype=bool)[labels], probabilities)
    assert {error.row: error.suggestion for error in errors} == find_with_loops(labels, probabilities)
    assert len(errors) > 10


def test_a_class_that_is_always_improbable_has_a_low_threshold():
    labels = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.01], [0.9, 0.02], [0.1, 0.3], [0.2, 0.2], [0.3, 0.25], [0.1, 0.3]])
    (error,) = find_label_errors(np.eye(2, dtype=bool)[labels], probabilities)
    assert error == LabelError(row=2, label=0, suggestion=1, margin=0.2)


def test_recordings_with_several_labels_can_have_too_many_or_too_few():
    targets = np.zeros((20, 2), bool)
    targets[:10, 0] = targets[5:15, 1] = True  # both classes in five recordings, none in five
    probabilities = np.where(targets, 0.9, 0.05)
    probabilities[2, 1], probabilities[7, 0] = 0.95, 0.03
    assert find_label_errors(targets, probabilities) == [
        LabelError(row=7, label=0, suggestion=None, margin=0.94),
        LabelError(row=2, label=None, suggestion=1, margin=0.9),
    ]


def test_a_class_without_recordings_is_never_suggested():
    targets = np.zeros((6, 3), bool)
    targets[:, 0] = np.arange(6) < 3
    targets[:, 1] = ~targets[:, 0]
    probabilities = np.tile([0.1, 0.1, 0.99], (6, 1))
    assert not [error for error in find_label_errors(targets, probabilities) if error.suggestion == 2]


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"`targets` must have the shape \(3, 2\); received: \(2, 2\)"):
        find_label_errors(np.eye(2, dtype=bool), np.zeros((3, 2)))
