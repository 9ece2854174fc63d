"""A review: questions, answers that are on the disk, undo, and heads that are trained on the answers."""

import numpy as np
import pytest
from review.small_reviews import NUM_CLIPS, NUM_PARTS, WRONG_ROW, describe_truth

from kerastag.custom.answers import Answer, read_answers


def answer_all(session, count=100):
    """Answer questions until none is left, and return them."""
    questions = []
    while len(questions) < count and (question := session.describe()["question"]):
        session.answer(question["number"], describe_truth(question))
        questions.append(question)
    return questions


def test_the_first_question_is_about_the_label_that_is_wrong(open_session):
    question = open_session().describe()["question"]
    assert question["file"] == f"{WRONG_ROW}.wav"
    assert (question["reason"], question["labels"], question["suggestion"]) == ("label", ["Bark"], "Rain")
    assert question["class"] == "Bark"
    assert question["choices"] == ["Bark", "Rain"]


def test_answers_are_saved_at_once_with_who_gave_them_and_undo_removes_them(open_session, tmp_path, trainer):
    session = open_session()
    first = session.describe()["question"]
    session.answer(first["number"], "class:Rain")
    file = str(trainer.clips.audio[WRONG_ROW].path.resolve())
    answers = read_answers(tmp_path / "review.sqlite")
    assert [(a.file, a.start_seconds, a.end_seconds, a.class_name, a.answer) for a in answers] == [
        (file, 0.0, None, "Bark", False),
        (file, 0.0, None, "Rain", True),
    ]
    assert {(a.reviewer, a.run) for a in answers} == {("Ann", str(tmp_path.resolve()))}
    second = session.describe()["question"]
    assert second["file"].startswith("garden_")
    session.undo()
    assert read_answers(tmp_path / "review.sqlite") == []
    again = session.describe()["question"]
    assert {**again, "number": 0} == {**first, "number": 0}
    session.answer(again["number"], "skip")
    assert read_answers(tmp_path / "review.sqlite") == []
    assert {**session.describe()["question"], "number": 0} == {**second, "number": 0}
    with pytest.raises(LookupError, match="is not the present one"):
        session.answer(again["number"], "yes")
    with pytest.raises(ValueError, match="`answer` must be yes, no, skip or class:NAME; received: 'maybe'"):
        session.answer(session.describe()["question"]["number"], "maybe")
    session.undo()
    with pytest.raises(LookupError, match="no answer of this session"):
        session.undo()


def test_every_part_is_asked_about_until_nothing_is_left(open_session):
    session = open_session()
    questions = answer_all(session)
    assert session.describe()["question"] is None
    names = {question["file"] for question in questions if question["file"].startswith("garden_")}
    assert names == {f"garden_{k}.wav" for k in range(NUM_PARTS)}


def test_a_head_that_is_trained_after_some_answers_has_fewer_false_alarms_and_better_labels(open_session, trainer):
    session = open_session(round_size=12, train_every=14)
    questions = answer_all(session, 100)
    assert len(questions) > 12, "the head is trained without being asked for, while questions are answered"
    session.wait()
    review = session.describe()
    assert (review["error"], review["task"], review["has_new_head"]) == ("", "", True)
    figures = review["figures"]
    assert figures["clips"]["after"] >= figures["clips"]["before"] > 0.9
    assert figures["answers"]["count"] >= 14
    assert figures["answers"]["after"] > figures["answers"]["before"]
    # The head that would be written does not take the barks of the garden for barks.
    barks = session._trained.pool[:4, 0]
    assert (barks < session._trained.thresholds[0]).mean() > (trainer.baseline.pool[:4, 0] < 0.5).mean()


def test_a_training_that_fails_is_reported_and_the_review_goes_on(open_session, monkeypatch):
    session = open_session()

    def fail(answers, previous):
        raise FloatingPointError("the loss is not finite:\ndecrease `learning_rate`")

    answer_all(session, 1)
    monkeypatch.setattr(session.run.trainer, "train", fail)
    session.start_training()
    session.wait()
    assert session.describe()["error"] == "the loss is not finite: decrease `learning_rate`"
    assert len(answer_all(session, 1)) == 1
    with pytest.raises(LookupError, match="there is no new head to write: train one first"):
        session.start_writing()


def compute_raw_logits(trained):
    """Return the logits of held-out clips before the calibration, which depends on the other clips."""
    probabilities = trained.held_out.astype(np.float64)
    logits = np.log(probabilities) - np.log1p(-probabilities)
    return (logits - trained.calibration.offsets) / trained.calibration.slopes


@pytest.mark.slow
def test_a_part_with_an_answer_is_predicted_by_a_head_that_was_not_trained_on_it(trainer):
    """Another answer about a part changes the head, but not what is predicted of the part when it is held out."""
    part = trainer.pool.parts[0]
    other = Answer("/elsewhere.wav", 0.0, 5.0, "Rain", True)  # which is neither a clip nor in the pool
    measured = []
    for name in ("Bark", "Rain"):
        answer = Answer(str(part.path), part.start_seconds, part.end_seconds, name, False)
        measured.append(trainer.cross_validate(trainer.train([answer, other], trainer.baseline)))
    first, second = measured
    assert len(first.clips) == len(trainer.clips) + 1
    np.testing.assert_allclose(compute_raw_logits(first)[-1], compute_raw_logits(second)[-1], atol=1e-4)
    assert np.abs(first.pool[0] - second.pool[0]).max() > 1e-3
    assert (first.thresholds >= trainer.thresholds).all()
    assert np.isnan(first.held_out[NUM_CLIPS:-1]).all(), "background in no fold"
