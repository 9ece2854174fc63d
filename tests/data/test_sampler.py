"""The sampler: a batch depends on its number alone, and every class is drawn equally often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastag.data.batches import BalancedSampler


def make_single_labels(*counts: int) -> np.ndarray:
    """Make `counts[k]` clips with class k only, so that every balanced draw identifies its class."""
    return np.eye(len(counts), dtype=bool)[np.repeat(np.arange(len(counts)), counts)]


def draw_clips(sampler: BalancedSampler, stop: int) -> np.ndarray:
    return np.concatenate([sampler.batch(index) for index in range(stop)])


@st.composite
def draw_arguments(draw: st.DrawFn) -> dict:
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


@settings(max_examples=25)
@given(draw_arguments(), st.lists(st.integers(0, 15), min_size=1, max_size=5))
def test_a_batch_depends_on_its_number_alone(arguments, indices):
    sampler = BalancedSampler(**arguments)
    sequential = [sampler.batch(index) for index in range(16)]
    jumping = BalancedSampler(**arguments)
    for index in indices:
        np.testing.assert_array_equal(jumping.batch(index), sequential[index])
        np.testing.assert_array_equal(BalancedSampler(**arguments).batch(index), sequential[index])


@settings(max_examples=25)
@given(draw_arguments(), st.integers(0, 10**9))
def test_batches_are_full_and_in_range_for_every_number(arguments, index):
    batch = BalancedSampler(**arguments).batch(index)
    assert batch.shape == (arguments["batch_size"],)
    assert batch.dtype == np.int64
    assert batch.min() >= 0
    assert batch.max() < len(arguments["targets"])
    if arguments["balance"] == 1:
        assert arguments["targets"][batch].any(axis=1).all()


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 30), st.integers(1, 12), st.integers(0, 1000)
)
def test_every_class_is_drawn_equally_often_and_every_clip_once_per_round(counts, batch_size, stop, seed):
    targets = make_single_labels(*counts)
    clips = np.bincount(draw_clips(BalancedSampler(targets, batch_size, seed=seed), stop), minlength=len(targets))
    draws_per_clip = [clips[targets[:, k]] for k in range(len(counts))]
    classes = [int(draws.sum()) for draws in draws_per_clip]
    assert sum(classes) == batch_size * stop
    assert max(classes) - min(classes) <= 1
    for draws in draws_per_clip:
        assert draws.max() - draws.min() <= 1


def test_a_clip_of_two_classes_is_drawn_for_both():
    targets = np.zeros((12, 2), bool)
    targets[:6, 0] = targets[5:, 1] = True  # Clip 5 has both; class 0 has 6 clips, class 1 has 7.
    clips = np.bincount(draw_clips(BalancedSampler(targets, 12), 7), minlength=12)  # 42 draws per class: 7 and 6 rounds
    assert clips.tolist() == [7] * 5 + [7 + 6] + [6] * 6


@pytest.mark.parametrize(("balance", "balanced"), [(0.0, 0), (0.1, 70), (0.25, 175), (0.9, 630), (1.0, 700)])
def test_the_balanced_share_is_exact_over_many_batches(balance, balanced):
    # Clip 0 is the only one with a class, so that it is every balanced draw. It is one natural draw in 1,000.
    targets = np.zeros((1000, 1), bool)
    targets[0] = True
    batches = draw_clips(BalancedSampler(targets, 7, balance=balance, seed=1), 100).reshape(100, 7)
    zeros = [int((batch == 0).sum()) for batch in batches]
    others = batches[batches != 0]
    assert len(set(others)) == len(others)  # Less than one round is drawn.
    assert sum(zeros) - balanced in (0, 1)
    assert all(np.floor(7 * balance) <= n <= np.ceil(7 * balance) + 1 for n in zeros)


def test_natural_draws_take_all_clips_round_by_round():
    targets = np.zeros((11, 2), bool)  # Labels do not matter here, nor does their absence.
    clips = draw_clips(BalancedSampler(targets, 4, balance=0.0, seed=5), 11).reshape(4, 11)
    # A batch that spans two rounds mixes the draws of both; counts reveal the rounds.
    assert np.bincount(clips.ravel()).tolist() == [4] * 11
    for stop in range(1, 11):
        counts = np.bincount(clips.ravel()[: 4 * stop], minlength=11)
        assert counts.max() - counts.min() <= 1


def test_orders_are_random_and_differ_between_seeds_rounds_and_positions():
    targets = make_single_labels(*[1] * 4)  # A draw identifies its class.
    first = np.concatenate([BalancedSampler(targets, 4, seed=seed)._draw_balanced(0, 1) for seed in range(400)]).ravel()
    # Chi-squared with 3 degrees of freedom: 16.3 at one in a thousand.
    assert ((np.bincount(first, minlength=4) - 100) ** 2 / 100).sum() < 16.3
    for sampler in (BalancedSampler(targets, 4), BalancedSampler(make_single_labels(4), 4)):  # cycles, and rounds
        orders = {tuple(np.concatenate(sampler._draw_balanced(4 * n, 4 * n + 4))) for n in range(200)}
        assert len(orders) == 24
    # Balanced and natural draws are mixed within a batch.
    positions = draw_clips(BalancedSampler(np.eye(1000, 1) > 0, 10, balance=0.5), 400).reshape(400, 10) == 0
    assert np.abs(positions.mean(axis=0) - 0.5).max() < 0.12


def test_batches_larger_than_the_classes_and_the_clips_are_full():
    targets = make_single_labels(1, 2)
    batch = BalancedSampler(targets, 100, seed=2).batch(3)
    assert np.bincount(batch).tolist() == [50, 25, 25]
    assert np.bincount(BalancedSampler(targets, 300, balance=0.0).batch(0)).tolist() == [100] * 3


def test_a_class_without_clips_is_named():
    targets = make_single_labels(2, 0, 3, 0)
    with pytest.raises(
        ValueError, match=r"^`targets` must have a clip of every class; 2 of 4 classes have none: 1, 3$"
    ):
        BalancedSampler(targets, 4)
    with pytest.raises(ValueError, match="2 of 4 classes have none: Dog, Rain$"):
        BalancedSampler(targets, 4, class_names=["Cat", "Dog", "Wind", "Rain"])
    many = make_single_labels(2, *[0] * 9)
    with pytest.raises(ValueError, match="9 of 10 classes have none: 1, 2, 3, 4, 5 and 4 more$"):
        BalancedSampler(many, 4)


def test_classes_without_clips_are_skipped_if_allowed_and_do_not_matter_without_balance():
    targets = make_single_labels(2, 0, 3, 0)
    sampler = BalancedSampler(targets, 10, allow_empty_classes=True)
    assert sampler.empty_classes.tolist() == [1, 3]
    assert targets[sampler.batch(0)].sum(axis=0).tolist() == [5, 0, 5, 0]
    assert sorted(BalancedSampler(targets, 5, balance=0.0).batch(0)) == list(range(5))
    with pytest.raises(ValueError, match="`targets` must have a label; received: none"):
        BalancedSampler(np.zeros((3, 2), bool), 2, allow_empty_classes=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1; received: 0"),
        ({"balance": 1.1}, r"`balance` must be in \[0, 1\]; received: 1.1"),
        ({"balance": float("nan")}, "`balance`"),
        ({"seed": -1}, "`seed` must be at least 0; received: -1"),
        ({"targets": np.zeros((0, 3), bool)}, r"`targets` must be \(clips, classes\), .* received: \(0, 3\)"),
        ({"targets": np.ones(3, bool)}, r"`targets` must be .* received: \(3,\)"),
    ],
)
def test_faulty_arguments_are_refused(change, message):
    arguments = {"targets": make_single_labels(1, 1), "batch_size": 2, **change}
    with pytest.raises(ValueError, match=message):
        BalancedSampler(**arguments)
    with pytest.raises(ValueError, match="`index` must be at least 0; received: -1"):
        BalancedSampler(make_single_labels(1), 1).batch(-1)


def test_batches_of_a_seed_never_change():
    targets = np.random.default_rng(0).random((50, 4)) < 0.3
    sampler = BalancedSampler(targets, 8, balance=0.5, seed=3, allow_empty_classes=True)
    assert sampler.batch(0).tolist() == [11, 32, 31, 0, 31, 13, 31, 48]
    assert sampler.batch(11).tolist() == [5, 18, 9, 0, 38, 20, 45, 14]
