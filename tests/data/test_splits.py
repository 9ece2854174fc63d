"""Class-wise splits: every part gets its share of every class, and no source is in two parts."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.splits import Split, assign_folds, assign_recordings, hold_out, split_classwise
from kerastag.labels import LabelSet


def make_single_labels(*counts: int) -> np.ndarray:
    return np.eye(len(counts), dtype=bool)[np.repeat(np.arange(len(counts)), counts)]


def list_recordings(names, folds=None):
    """Make a list of recordings from names `class/stem`."""
    labels = LabelSet.from_names(sorted({name.split("/")[0] for name in names}))
    recordings = tuple(
        Recording(Path(f"{name}.wav"), f"{name}.wav", (labels.index(name.split("/")[0]),), folds[i] if folds else "")
        for i, name in enumerate(names)
    )
    return AudioList(recordings, labels, (), "sounds")


ESC = list_recordings(
    [f"{c}/{fold}-{100 + i}-{take}" for c in "ab" for fold in range(1, 6) for i in range(4) for take in "AB"]
)


def parse_splits(*texts):
    return [Split.parse(text) for text in texts]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=60),
    st.lists(st.floats(0.05, 1), min_size=1, max_size=4),
    st.integers(0, 1000),
)
def test_groups_stay_together_and_parts_get_their_share_of_every_class(rows, weights, seed):
    classes, groups = [group % 4 for _, group in rows], [group for _, group in rows]
    shares = np.array(weights) / sum(weights)
    parts = split_classwise(classes, groups, shares, lambda number: np.random.default_rng([seed, number]))
    for group in set(groups):
        assert len({part for part, its_group in zip(parts, groups, strict=True) if its_group == group}) == 1
    for name in set(classes):
        class_parts = parts[np.array(classes) == name]
        largest_group = max(np.bincount(np.array(groups)[np.array(classes) == name]))
        for part, share in enumerate(shares[:-1]):
            assert abs((class_parts == part).sum() - share * len(class_parts)) <= largest_group


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9), st.floats(0.1, 0.9), st.integers(0, 10**6))
def test_hold_out_splits_the_clips_in_two(data_seed, num_clips, num_classes, share, seed):
    random = np.random.default_rng(data_seed)
    targets = random.random((num_clips, num_classes)) < random.choice([0.1, 0.4, 0.9])
    targets[0, 0] = True
    try:
        train, held_out = hold_out(targets, share, seed)
    except ValueError as error:
        assert "`share` must leave clips on both sides" in str(error)  # noqa: PT017 - it depends on the example
        assert len(targets) < 2 / min(share, 1 - share)
        return
    assert len(train) * len(held_out)
    assert sorted([*train, *held_out]) == list(range(len(targets)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held_out) > 0).all()
    np.testing.assert_array_equal(hold_out(targets, share, seed)[1], held_out)


def test_hold_out_takes_its_share_of_every_class():
    targets = make_single_labels(8, 40, 400)
    _, held_out = hold_out(targets, 0.25)
    assert targets[held_out].sum(axis=0).tolist() == [2, 10, 100]
    # Clips of several classes with a long tail, and some without a class.
    random = np.random.default_rng(0)
    targets = random.random((4000, 20)) < np.geomspace(0.01, 0.3, 20)
    _, held_out = hold_out(targets, 0.2, seed=4)
    counts = targets.sum(axis=0)
    # A clip held out for a rare class counts for its frequent classes too, which may then have more than their share.
    assert (np.abs(targets[held_out].sum(axis=0) - 0.2 * counts) <= np.maximum(1, 0.02 * counts)).all()
    unlabeled = np.flatnonzero(~targets.any(axis=1))
    assert len(np.intersect1d(unlabeled, held_out)) == round(0.2 * len(unlabeled))
    assert not np.array_equal(held_out, hold_out(targets, 0.2, seed=5)[1])


def test_hold_out_of_a_seed_never_changes():
    targets = np.random.default_rng(0).random((40, 3)) < 0.3
    assert hold_out(targets, 0.25, seed=7)[1].tolist() == [1, 12, 17, 18, 21, 26, 30, 31, 37, 38]


def test_hold_out_refuses_a_share_out_of_range_or_that_leaves_a_side_empty():
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="`share` must be above 0 and below 1; received"):
            hold_out(make_single_labels(3, 3), share)
    with pytest.raises(ValueError, match=r"`share` must leave clips on both sides; received: 0.1 of 2 clips"):
        hold_out(make_single_labels(1, 1), 0.1)


def test_splits_get_the_folds_that_they_name():
    assigned = assign_recordings(ESC, parse_splits("bal_train=1,2,3", "valid=4", "eval=5"))
    for name, folds in (("bal_train", "123"), ("valid", "4"), ("eval", "5")):
        assert {ESC.recordings[i].path.stem[0] for i in assigned[name]} == set(folds)
    assert sorted(i for rows in assigned.values() for i in rows) == list(range(len(ESC)))


def test_the_fold_in_a_list_takes_precedence_over_that_in_a_name():
    clips = list_recordings(["a/1-x", "a/1-y"], folds=["9", ""])
    assert assign_recordings(clips, parse_splits("one=9", "two=1")) == {"one": [0], "two": [1]}


def test_shares_of_the_same_folds_keep_the_takes_of_a_source_together():
    assigned = assign_recordings(ESC, parse_splits("bal_train=1,2,3,4:75%", "valid=1,2,3,4:25%", "eval=5"))
    assert [len(assigned[name]) for name in ("bal_train", "valid", "eval")] == [48, 16, 16]
    sources = {name: {ESC.recordings[i].path.stem[:-2] for i in rows} for name, rows in assigned.items()}
    assert not sources["bal_train"] & sources["valid"]
    for name in ("bal_train", "valid"):
        classes = [ESC.recordings[i].labels[0] for i in assigned[name]]
        assert classes.count(0) == classes.count(1)
    assert assign_recordings(ESC, parse_splits("bal_train=1,2,3,4:75%", "valid=1,2,3,4:25%"), seed=1) != assigned


def test_shares_without_folds_take_no_recording_twice():
    clips = list_recordings([f"{c}/{i}" for c in "abc" for i in range(10)])
    assigned = assign_recordings(clips, parse_splits("bal_train=70%", "eval=20%"))
    assert [len(rows) for rows in assigned.values()] == [21, 6]
    assert not set(assigned["bal_train"]) & set(assigned["eval"])


def test_soundscape_splits_of_a_seed_never_change():
    assigned = assign_recordings(ESC, parse_splits("bal_train=1,2:75%", "eval=1,2:25%"), seed=3)
    assert assigned["eval"] == [6, 7, 8, 9, 46, 47, 48, 49]
    clips = list_recordings([f"{c}/{i}" for c in "abc" for i in range(10)])
    assert assign_recordings(clips, parse_splits("bal_train=70%", "eval=20%"))["eval"] == [2, 3, 11, 17, 26, 29]


@pytest.mark.parametrize("text", ["eval", "eval=", "=1", "eval=1,,2", "eval=0%", "eval=101%", "eval=1:x%", "a/b=1"])
def test_text_that_is_not_a_split_is_refused(text):
    with pytest.raises(ValueError, match="`split` must be NAME=FOLD"):
        Split.parse(text)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "`splits` must have different names, at least one; received: none"),
        (("a=1", "a=2"), "`splits` must have different names, at least one; received: a, a"),
        (("a=1", "b=50%"), "`splits` must all name folds, or none of them"),
        (("a=1,2", "b=2,3"), "`splits` must not share only some folds; received: 1, 2 for a and 2, 3 for b"),
        (("a=60%", "b=50%"), "`splits` must take at most 100%; received: 110% for a and others"),
        (("a=7",), "sounds: split a: no fold '7'; the folds are 1, 2, 3, 4, 5"),
    ],
)
def test_splits_that_overlap_are_refused(texts, message):
    with pytest.raises(ValueError) as raised:
        assign_recordings(ESC, parse_splits(*texts))
    assert message in str(raised.value)
    with pytest.raises(ValueError, match="no fold '1'; the folds are none: neither a column `fold` nor file names"):
        assign_recordings(list_recordings(["a/x"]), parse_splits("a=1"))


def test_folds_come_from_the_list_the_names_or_a_pattern():
    names = [f"{c}/{i % 3 + 1}-{100 * k + i}-A" for k, c in enumerate("abc") for i in range(9)]
    clips = list_recordings(names)
    assert [int(r.path.name[0]) - 1 for r in clips.recordings] == assign_folds(clips, 5).tolist()
    assert len(set(assign_folds(clips, 5, pattern=r"(\d)-A"))) > 3
    assert not assign_folds(clips, 0).any()
    with_folds = list_recordings(names, folds=[str(i % 4) for i in range(27)])
    assert assign_folds(with_folds, 5).tolist() == [i % 4 for i in range(27)]
    with pytest.raises(ValueError, match=r"`fold_pattern` must have a group that matches every file name; .*'\(x\)'"):
        assign_folds(clips, 5, pattern="(x)")


@pytest.mark.parametrize(
    ("names", "folds", "message"),
    [
        (["a/x", "a/y"], ["1", ""], "sounds: column fold is empty for y.wav"),
        (["a/1-1-A", "a/2-2-A"], None, "sounds: must have at least 3 folds; received: 2"),
        (["a/1-1-A", "a/2-2-A", "b/3-3-A"], None, "sounds: class 'b' must be in at least two folds"),
    ],
)
def test_folds_that_cannot_be_evaluated_are_refused(names, folds, message):
    with pytest.raises(ValueError, match=message):
        assign_folds(list_recordings(names, folds), 5)


def test_dealt_folds_share_out_every_class_and_keep_sources_together():
    clips = list_recordings([f"{c}/src{source}_{part}" for c in "ab" for source in range(10) for part in range(2)])
    folds = assign_folds(clips, 5)
    for k in range(2):
        assert np.bincount(folds[clips.targets[:, k]], minlength=5).tolist() == [4] * 5
    assert (folds[::2] == folds[1::2]).all()
    assert folds[::2].tolist() == [0, 2, 1, 0, 2, 3, 4, 1, 3, 4, 2, 0, 3, 1, 1, 2, 4, 0, 3, 4]


def list_parts(num_files, parts_per_file):
    recordings = tuple(
        Recording(Path(f"{n}.wav"), f"{n}_{i}.wav", ((n + i) % 2,), start_seconds=i, end_seconds=i + 1.0)
        for n in range(num_files)
        for i in range(parts_per_file)
    )
    return AudioList(recordings, LabelSet.from_names(["a", "b"]), (), "sounds")


def test_the_labeled_parts_of_a_file_stay_in_one_fold_and_one_split():
    folds = assign_folds(list_parts(6, 4), 3).reshape(6, 4)
    assert (folds == folds[:, :1]).all()
    assert np.bincount(folds[:, 0]).tolist() == [2, 2, 2]
    assigned = assign_recordings(list_parts(6, 4), parse_splits("a=50%", "b=50%"))
    assert not {row // 4 for row in assigned["a"]} & {row // 4 for row in assigned["b"]}


def test_parts_of_fewer_files_than_folds_are_spread_with_a_warning():
    with pytest.warns(UserWarning, match="fewer files than 3 folds: parts of one file are in several of them"):
        folds = assign_folds(list_parts(1, 12), 3)
    assert np.bincount(folds).tolist() == [4, 4, 4]
