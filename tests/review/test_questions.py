"""The selection of questions: doubtful labels first, then alarms and parts that the head is not sure of."""

from dataclasses import replace

import numpy as np
import pytest

from kerastag.review.questions import Candidates, Question, pick_diverse, select_questions

NOTHING = frozenset()


@pytest.fixture
def candidates():
    """Six clips of two classes, of which row 2 has a wrong label, and six parts."""
    targets = np.eye(2, dtype=bool)[[0, 0, 1, 1, 1, 0]]
    clips = [[0.9, 0.1], [0.8, 0.2], [0.95, 0.02], [0.1, 0.9], [0.2, 0.8], [0.85, 0.1]]
    parts = [[0.99, 0.1], [0.97, 0.1], [0.52, 0.1], [0.1, 0.45], [0.01, 0.01], [0.3, 0.6]]
    is_known = np.zeros((12, 2), bool)
    is_known[:6] = True
    places = np.array([[1, 0], [1, 0.1], [0.9, 0], [0, 1], [0.1, 1], [1, 0.05]])
    embeddings = np.concatenate([places, [[1, 0.02], [1, 0.03], [0.6, 0.8], [0, 1], [-1, 0.3], [-0.2, 1]]])
    return Candidates(embeddings, np.array(clips + parts), is_known, targets, np.array([0.5, 0.5]), np.array([0, 1]))


def test_doubtful_labels_come_first_and_then_alarms_and_uncertain_parts_in_turn(candidates):
    questions = select_questions(candidates, 6, NOTHING)
    assert questions[0] == Question(2, 1, "label", suggestion=0)
    assert [question.reason for question in questions[1:]] == ["alarm", "uncertain"] * 2 + ["alarm"]
    rows = [question.row for question in questions[1:]]
    assert len(set(rows)) == 5
    assert min(rows) >= 6
    for _, row, k, reason in ((each, *each[:3]) for each in questions[1:]):
        assert (candidates.probabilities[row, k] >= 0.5) == (reason == "alarm") or reason == "uncertain"


def test_of_alarms_that_are_alike_only_one_is_asked_about_at_first(candidates):
    alarms = [question.row for question in select_questions(candidates, 5, NOTHING) if question.reason == "alarm"]
    assert len(alarms) == 2
    assert not {6, 7} <= set(alarms), "both sound the same"


def test_what_is_answered_or_known_is_not_asked_about_again(candidates):
    answered = frozenset({(2, 1), (6, 0), (7, 0)})
    rows = {(question.row, question.class_index) for question in select_questions(candidates, 10, answered)}
    assert not rows & answered
    assert all(row >= 6 for row, _ in rows)
    known = replace(candidates, is_known=np.ones_like(candidates.is_known))
    assert select_questions(known, 10, frozenset({(2, 0)})) == []


def test_only_some_classes_are_asked_about(candidates):
    some = replace(candidates, classes=np.array([0]))
    assert {question.class_index for question in select_questions(some, 10, NOTHING)} == {0}


def test_at_most_half_of_the_questions_are_about_labels(candidates):
    swapped = replace(candidates, targets=candidates.targets[:, ::-1])
    reasons = [question.reason for question in select_questions(swapped, 4, NOTHING)]
    assert reasons == ["label", "label", "alarm", "uncertain"]
    assert [each.reason for each in select_questions(swapped, 6, NOTHING, 1.0)].count("alarm") == 3


def test_diverse_rows_keep_away_from_others():
    x = np.array([[0.0, 0], [5, 0], [5, 1], [0, 9]])
    assert pick_diverse(x, [0, 1, 2, 3], [0], 2) == [3, 2]
    assert pick_diverse(x, [2, 1], [], 5) == [2, 1]
    assert pick_diverse(x, [], [0], 3) == []
