"""Recordings dealt to splits: folds and sources never mixed, every class in its share."""

from pathlib import Path

import pytest

from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.scene_splits import Split, deal
from kerastag.labels import LabelSet


def recordings(names, folds=None):
    """`class/stem` -> a list of recordings."""
    labels = LabelSet.from_names(sorted({name.split("/")[0] for name in names}))
    made = tuple(
        Recording(Path(f"{name}.wav"), name, (labels.index(name.split("/")[0]),), folds[i] if folds else "")
        for i, name in enumerate(names)
    )
    return AudioList(made, labels, (), "sounds")


ESC = recordings(
    [f"{c}/{fold}-{100 + i}-{take}" for c in "ab" for fold in range(1, 6) for i in range(4) for take in "AB"]
)


def splits(*texts):
    return [Split.parse(text) for text in texts]


def test_folds_go_where_they_are_sent():
    dealt = deal(ESC, splits("bal_train=1,2,3", "valid=4", "eval=5"))
    for name, folds in (("bal_train", "123"), ("valid", "4"), ("eval", "5")):
        assert {ESC.recordings[i].path.stem[0] for i in dealt[name]} == set(folds)
    assert sorted(i for rows in dealt.values() for i in rows) == list(range(len(ESC)))


def test_the_fold_of_a_list_comes_before_that_of_a_name():
    clips = recordings(["a/1-x", "a/1-y"], folds=["9", ""])
    assert deal(clips, splits("one=9", "two=1")) == {"one": [0], "two": [1]}


def test_shares_of_the_same_folds_keep_the_takes_of_a_source_together():
    dealt = deal(ESC, splits("bal_train=1,2,3,4:75%", "valid=1,2,3,4:25%", "eval=5"))
    assert [len(dealt[name]) for name in ("bal_train", "valid", "eval")] == [48, 16, 16]
    sources = {name: {ESC.recordings[i].name[:-2] for i in rows} for name, rows in dealt.items()}
    assert not sources["bal_train"] & sources["valid"]
    for name in ("bal_train", "valid"):
        by_class = [ESC.recordings[i].labels[0] for i in dealt[name]]
        assert by_class.count(0) == by_class.count(1)
    assert deal(ESC, splits("bal_train=1,2,3,4:75%", "valid=1,2,3,4:25%"), seed=1) != dealt


def test_shares_without_folds_take_no_recording_twice():
    clips = recordings([f"{c}/{i}" for c in "abc" for i in range(10)])
    dealt = deal(clips, splits("bal_train=70%", "eval=20%"))
    assert [len(rows) for rows in dealt.values()] == [21, 6]
    assert not set(dealt["bal_train"]) & set(dealt["eval"])


@pytest.mark.parametrize("text", ["eval", "eval=", "=1", "eval=1,,2", "eval=0%", "eval=101%", "eval=1:x%", "a/b=1"])
def test_what_is_no_split_is_refused(text):
    with pytest.raises(ValueError, match="`split` must be NAME=FOLD"):
        Split.parse(text)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "`splits` must have different names, at least one, received none"),
        (("a=1", "a=2"), "`splits` must have different names, at least one, received a, a"),
        (("a=1", "b=50%"), "`splits` must all name folds, or none of them"),
        (("a=1,2", "b=2,3"), "`splits` must not mix folds: a has 1, 2, b has 2, 3"),
        (("a=60%", "b=50%"), "a and others take 110%"),
        (("a=7",), "sounds: split a: no fold '7'; there are 1, 2, 3, 4, 5"),
    ],
)
def test_splits_that_would_mix_are_refused(texts, message):
    with pytest.raises(ValueError) as raised:
        deal(ESC, splits(*texts))
    assert message in str(raised.value)


def test_recordings_without_folds_say_so():
    with pytest.raises(ValueError, match="no fold '1'; there are no folds: neither a column `fold` nor file names"):
        deal(recordings(["a/x"]), splits("a=1"))
