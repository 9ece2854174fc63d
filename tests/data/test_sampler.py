"""The sampler: which clips a batch holds depends on its number alone, and every class gets its share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.data.sampler import BalancedSampler


def single_labels(*counts: int) -> np.ndarray:
    """Class k has `counts[k]` clips with no other label, so that the class behind every balanced draw shows."""
    return np.eye(len(counts), dtype=bool)[np.repeat(np.arange(len(counts)), counts)]


def drawn(sampler: BalancedSampler, stop: int) -> np.ndarray:
    return np.concatenate(list(sampler.batches(0, stop)))


@st.composite
def cases(draw: st.DrawFn) -> dict:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    targets = random.random(shape) < draw(st.sampled_from([0.1, 0.4, 0.9]))
    targets[0, 0] = True
    return {
        "targets": targets,
        "batch_size": draw(st.integers(1, 50)),
        "balance": draw(st.sampled_from([0.0, 0.1, 0.5, 0.73, 1.0])),
        "seed": draw(st.integers(0, 10**6)),
        "allow_empty_classes": True,
    }


@settings(max_examples=60)
@given(cases(), st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_a_batch_depends_on_its_number_alone(case, asked):
    sequential = list(BalancedSampler(**case).batches(0, 41))
    jumping = BalancedSampler(**case)
    for index in asked:
        np.testing.assert_array_equal(jumping.batch(index), sequential[index])
        np.testing.assert_array_equal(BalancedSampler(**case).batch(index), sequential[index])


@settings(max_examples=40)
@given(cases(), st.integers(0, 10**9))
def test_batches_are_full_and_in_range_however_far_on(case, index):
    batch = BalancedSampler(**case).batch(index)
    assert batch.shape == (case["batch_size"],)
    assert batch.dtype == np.int64
    assert batch.min() >= 0
    assert batch.max() < len(case["targets"])
    if case["balance"] == 1:
        assert case["targets"][batch].any(axis=1).all()


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 30), st.integers(1, 12), st.integers(0, 1000)
)
def test_every_class_is_drawn_equally_and_every_clip_once_before_any_twice(counts, batch_size, stop, seed):
    targets = single_labels(*counts)
    clips = np.bincount(drawn(BalancedSampler(targets, batch_size, seed=seed), stop), minlength=len(targets))
    of_class = [clips[targets[:, k]] for k in range(len(counts))]
    classes = [int(found.sum()) for found in of_class]
    assert sum(classes) == batch_size * stop
    assert max(classes) - min(classes) <= 1
    for found in of_class:
        assert found.max() - found.min() <= 1


def test_whole_cycles_give_every_class_exactly_the_same():
    targets = single_labels(1, 2, 30, 400)
    batches = list(BalancedSampler(targets, 20, seed=3).batches(5, 25))
    for batch in batches:
        assert targets[batch].sum(axis=0).tolist() == [5, 5, 5, 5]


def test_a_clip_of_two_classes_is_drawn_for_both():
    targets = np.zeros((12, 2), bool)
    targets[:6, 0] = targets[5:, 1] = True  # clip 5 is of both; class 0 has 6 clips, class 1 has 7
    clips = np.bincount(drawn(BalancedSampler(targets, 12), 7), minlength=12)  # 42 draws a class: 7 and 6 rounds
    assert clips.tolist() == [7] * 5 + [7 + 6] + [6] * 6


@pytest.mark.parametrize(
    ("balance", "balanced"), [(0.0, 0), (0.1, 70), (0.25, 175), (0.5, 350), (0.9, 630), (1.0, 700)]
)
def test_the_balanced_share_is_exact_over_many_batches(balance, balanced):
    # One class, of clip 0: it is all that a balanced draw can give. The natural draws meet it once in 1,000.
    targets = np.zeros((1000, 1), bool)
    targets[0] = True
    batches = list(BalancedSampler(targets, 7, balance=balance, seed=1).batches(0, 100))
    zeros = [int((batch == 0).sum()) for batch in batches]
    others = np.concatenate(batches)[np.concatenate(batches) != 0]
    assert len(set(others)) == len(others)  # less than one round
    assert sum(zeros) - balanced in (0, 1)
    assert all(np.floor(7 * balance) <= n <= np.ceil(7 * balance) + 1 for n in zeros)


def test_natural_order_goes_through_all_clips_round_by_round():
    targets = np.zeros((11, 2), bool)  # labels do not matter, nor that there are none
    clips = drawn(BalancedSampler(targets, 4, balance=0.0, seed=5), 11).reshape(4, 11)
    # In a batch that spans two rounds, the draws of both are mixed; counts tell the rounds.
    whole = drawn(BalancedSampler(targets, 11, balance=0.0, seed=5), 4).reshape(4, 11)
    for one in whole:
        assert sorted(one) == list(range(11))
    assert not (whole[0] == whole[1]).all()
    assert np.bincount(clips.ravel()).tolist() == [4] * 11
    for stop in range(1, 11):
        counts = np.bincount(clips.ravel()[: 4 * stop], minlength=11)
        assert counts.max() - counts.min() <= 1


def test_orders_are_random_and_differ_between_seeds_rounds_and_places():
    targets = single_labels(*[1] * 4)  # a draw names its class
    first = np.array([BalancedSampler(targets, 4, seed=seed)._balanced(0, 1)[0] for seed in range(400)])
    # Chi-squared with 3 degrees of freedom: 16.3 at one in a thousand.
    assert ((np.bincount(first, minlength=4) - 100) ** 2 / 100).sum() < 16.3
    cycles = {tuple(BalancedSampler(targets, 4)._balanced(4 * n, 4 * n + 4)) for n in range(400)}
    assert len(cycles) == 24
    rounds = {tuple(BalancedSampler(single_labels(4), 4)._balanced(4 * n, 4 * n + 4)) for n in range(400)}
    assert len(rounds) == 24
    # Where balanced and natural draws meet, neither half has a place of its own.
    places = np.array([b == 0 for b in BalancedSampler(np.eye(1000, 1) > 0, 10, balance=0.5).batches(0, 400)])
    assert np.abs(places.mean(axis=0) - 0.5).max() < 0.12


def test_batches_larger_than_the_classes_and_the_clips_are_full():
    targets = single_labels(1, 2)
    batch = BalancedSampler(targets, 100, seed=2).batch(3)
    assert np.bincount(batch).tolist() == [50, 25, 25]
    assert np.bincount(BalancedSampler(targets, 300, balance=0.0).batch(0)).tolist() == [100] * 3


def test_a_class_without_clips_is_named():
    targets = single_labels(2, 0, 3, 0)
    with pytest.raises(ValueError, match=r"^`targets`: 2 of 4 classes have no clip: 1, 3$"):
        BalancedSampler(targets, 4)
    with pytest.raises(ValueError, match="2 of 4 classes have no clip: Dog, Rain$"):
        BalancedSampler(targets, 4, class_names=["Cat", "Dog", "Wind", "Rain"])
    many = single_labels(2, *[0] * 9)
    with pytest.raises(ValueError, match="9 of 10 classes have no clip: 1, 2, 3, 4, 5 and 4 more$"):
        BalancedSampler(many, 4)


def test_classes_without_clips_are_left_out_when_allowed_and_no_matter_without_balance():
    targets = single_labels(2, 0, 3, 0)
    sampler = BalancedSampler(targets, 10, allow_empty_classes=True)
    assert sampler.empty_classes.tolist() == [1, 3]
    assert targets[sampler.batch(0)].sum(axis=0).tolist() == [5, 0, 5, 0]
    assert sorted(BalancedSampler(targets, 5, balance=0.0).batch(0)) == list(range(5))
    with pytest.raises(ValueError, match="no clip has a label"):
        BalancedSampler(np.zeros((3, 2), bool), 2, allow_empty_classes=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, received 0"),
        ({"balance": 1.1}, r"`balance` must be in \[0, 1\], received 1.1"),
        ({"balance": -0.1}, "`balance`"),
        ({"balance": float("nan")}, "`balance`"),
        ({"seed": -1}, "`seed` must not be negative, received -1"),
        ({"targets": np.zeros((0, 3), bool)}, r"`targets` must be \(clips, classes\) .* received \(0, 3\)"),
        ({"targets": np.ones(3, bool)}, r"`targets` must be .* received \(3,\)"),
    ],
)
def test_bad_arguments_are_one_clear_line(change, message):
    arguments = {"targets": single_labels(1, 1), "batch_size": 2, **change}
    with pytest.raises(ValueError, match=message):
        BalancedSampler(**arguments)


def test_a_negative_batch_is_refused():
    with pytest.raises(ValueError, match="`index` must not be negative, received -1"):
        BalancedSampler(single_labels(1), 1).batch(-1)
