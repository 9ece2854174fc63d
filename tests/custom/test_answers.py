"""The answers of a review: what was acknowledged is on the disk, and clips get their labels from it."""

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from checks import ROOT
from kerastag.custom.answers import Answer, AnswerStore, apply_answers, assign_part_folds, read_answers
from kerastag.custom.clips import Clips
from kerastag.data.audio_lists import Recording

ANSWER = Answer("/sounds/a.wav", 5.0, 10.0, "Dog", True, "Ann", "2026-11-29T12:00:00Z", "runs/dogs")

WRITER = """
import itertools, os, sys
from kerastag.custom.answers import Answer, AnswerStore
store = AnswerStore(sys.argv[1])
for number in itertools.count():
    pair = [Answer("/a.wav", number, number + 1, name, name == "Dog") for name in ("Dog", "Cat")]
    store.add(pair)
    os.write(1, b"%d\\n" % number)
"""


@pytest.fixture
def store(tmp_path):
    store = AnswerStore(tmp_path / "review.sqlite")
    yield store
    store.close()


def make_clips(**changes):
    """Make two clips of two classes and one of background, in two folds."""
    audio = (
        Recording(Path("/sounds/a.wav"), "a.wav", (0,)),
        Recording(Path("/sounds/b.wav"), "b.wav", (1,), start_seconds=2.0, end_seconds=4.0),
        np.zeros(8000, np.float32),
    )
    fields = {"source": "/sounds", "missing": (), "class_names": ("Cat", "Dog", "background"), "audio": audio}
    return Clips(
        **{
            **fields,
            "targets": np.eye(3, dtype=bool),
            "folds": np.array([0, 1, -1]),
            "is_known": np.ones((3, 3), bool),
            **changes,
        }
    )


def test_answers_are_read_as_they_were_saved(store, tmp_path):
    answers = [ANSWER, replace(ANSWER, end_seconds=None, answer=False), replace(ANSWER, file="/caf\u00e9/\udcff.wav")]
    assert store.add(answers) == [1, 2, 3]
    assert store.read() == read_answers(tmp_path / "review.sqlite") == answers


def test_the_last_answer_to_a_question_counts_until_it_is_removed(store):
    numbers = store.add([ANSWER, replace(ANSWER, class_name="Cat"), replace(ANSWER, answer=False, reviewer="Bob")])
    assert [(answer.class_name, answer.answer, answer.reviewer) for answer in store.read()] == [
        ("Dog", False, "Bob"),
        ("Cat", True, "Ann"),
    ]
    store.remove(numbers[2:])
    assert store.read()[0] == ANSWER


def test_all_answers_of_a_call_are_saved_or_none(store):
    with pytest.raises(ValueError, match=r"review\.sqlite: must be a file of answers; received: NOT NULL constraint"):
        store.add([ANSWER, replace(ANSWER, reviewer=None)])
    assert store.read() == []
    assert store.add([ANSWER])


def test_a_killed_process_loses_no_answer_that_was_acknowledged(tmp_path):
    path, last = tmp_path / "review.sqlite", -1
    for num_lines in (3, 60):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True, encoding="utf-8") as process:
            lines = [int(process.stdout.readline()) for _ in range(num_lines)]
            process.kill()
            lines += [int(line) for line in process.stdout.read().splitlines()]
        last = max(last, *lines)
        answers = read_answers(path)
        assert {(answer.start_seconds, answer.class_name) for answer in answers} >= {
            (number, name) for number in range(last + 1) for name in ("Dog", "Cat")
        }
        assert len(answers) % 2 == 0, "the two answers of one call must not be separated"


def test_a_file_that_holds_no_answers_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.sqlite: no answers of a review"):
        read_answers(tmp_path / "none.sqlite")
    path = tmp_path / "review.sqlite"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    for read in (read_answers, AnswerStore):
        with pytest.raises(ValueError, match=r"review\.sqlite: must be a file of answers; received: file is not a"):
            read(path)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE others (a)")
    connection.close()
    for read in (read_answers, AnswerStore):
        with pytest.raises(ValueError, match=r"review\.sqlite: must be a file of answers of format 1; received: for"):
            read(path)


def test_labels_are_corrected_and_other_parts_are_added(capsys):
    clips = make_clips(targets=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], bool))
    answers = [
        Answer("/sounds/a.wav", 0.0, None, "Cat", False),
        Answer("/sounds/b.wav", 2.0, 4.0, "Dog", False),
        Answer("/sounds/b.wav", 7.0, 9.0, "Cat", True),
        Answer("/field/c.flac", 3600.0, 3605.0, "Dog", False),
        Answer("/field/c.flac", 3600.0, 3605.0, "Horse", True),
        Answer("/field/c.flac", 3605.0, 3610.0, "Dog", False),
        Answer("/field/c.flac", 3605.0, 3610.0, "Cat", False),
    ]
    new_clips = apply_answers(clips, answers)
    assert new_clips.targets.astype(int).tolist() == [
        *([0, 1, 0], [0, 0, 1], [0, 0, 1]),
        *([1, 0, 0], [0, 0, 0], [0, 0, 1]),
    ]
    assert new_clips.is_known[3:].astype(int).tolist() == [[1, 0, 1], [0, 1, 0], [1, 1, 1]]
    assert new_clips.is_known[:3].all()
    assert new_clips.folds.tolist() == [0, 1, -1, 1, -1, -1]
    assert new_clips.audio[4] == Recording(
        Path("/field/c.flac"), "c_3600.000_3605.000.flac", (), start_seconds=3600.0, end_seconds=3605.0
    )
    assert clips.targets[0].tolist() == [True, True, False], "the clips themselves must not change"
    assert capsys.readouterr().err == "answers left out, about classes without a clip: 1 (Horse)\n"


def test_one_class_excludes_the_others_where_every_clip_has_one_label():
    answers = [Answer("/field/c.flac", 0.0, 5.0, "Dog", True), Answer("/field/c.flac", 5.0, 9.0, "Dog", False)]
    new_clips = apply_answers(make_clips(), answers)
    assert new_clips.targets[3:].astype(int).tolist() == [[0, 1, 0], [0, 0, 0]]
    assert new_clips.is_known[3:].astype(int).tolist() == [[1, 1, 1], [0, 1, 0]]


def test_relative_paths_of_clips_match_the_absolute_paths_of_answers():
    audio = (Recording(Path("sounds/a.wav"), "a.wav", (0,)), *make_clips().audio[1:])
    answer = Answer(str(Path.cwd() / "sounds/a.wav"), 0.0, None, "Dog", True)
    assert apply_answers(make_clips(audio=audio), [answer]).targets[0].tolist() == [True, True, False]


def test_parts_of_one_minute_are_in_one_fold():
    answers = [Answer("/field/c.flac", 5.0 * k, 5.0 * k + 5, "Dog", False) for k in range(240)]
    clips = make_clips()
    folds = assign_part_folds(apply_answers(clips, answers), len(clips))
    assert folds[:3].tolist() == [0, 1, -1]
    minutes = folds[3:].reshape(20, 12)
    assert (minutes == minutes[:, :1]).all()
    assert set(folds[3:]) == {0, 1}
