"""Tests of the configuration of runs: published defaults, steps of the checkpoints, and invalid values."""

import dataclasses

import pytest

from kerastag.training.config import RunConfig, TrainingConfig, checkpoint_steps, evaluation_interval


def test_the_defaults_are_the_published_run():
    config = TrainingConfig()
    assert (config.steps, config.batch_size, config.learning_rate) == (50_000, 500, 1e-3)
    assert checkpoint_steps(config) == tuple(range(10_000, 50_001, 5_000))
    assert config.balance == 1
    # No method that paper 1 does not use.
    assert not any((config.mixup, config.label_smoothing, config.weight_decay, config.ema))
    assert (config.warmup_steps, config.schedule, config.precision) == (0, "constant", "float32")


@pytest.mark.parametrize(
    ("steps", "checkpoints", "expected"),
    [
        (1000, 9, tuple(range(200, 1001, 100))),
        (1000, 1, (1000,)),
        (1000, 2, (200, 1000)),
        (3, 2, (1, 3)),
        (3, 9, (1, 2, 3)),
        (1, 9, (1,)),
    ],
)
def test_checkpoints_are_spaced_evenly_from_a_fifth_of_the_steps_to_the_end(steps, checkpoints, expected):
    assert checkpoint_steps(TrainingConfig(steps=steps, checkpoints=checkpoints)) == expected


def test_the_evaluation_interval_is_a_twentieth_of_the_steps_by_default():
    assert evaluation_interval(TrainingConfig(steps=1000)) == 50
    assert evaluation_interval(TrainingConfig(steps=7)) == 1
    assert evaluation_interval(TrainingConfig(steps=1000, evaluate_every=3)) == 3


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().steps = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "`steps` must be at least 1; received: 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"save_every": 0}, "`save_every` must be at least 1"),
        ({"checkpoints": 0}, "`checkpoints` must be at least 1"),
        ({"evaluate_every": -1}, "`evaluate_every` must be at least 0; received: -1"),
        ({"mixup": -0.5}, "`mixup` must be at least 0; received: -0.5"),
        ({"weight_decay": -1}, "`weight_decay` must be at least 0"),
        ({"warmup_steps": -1}, "`warmup_steps` must be at least 0"),
        ({"steps": 10, "warmup_steps": 10}, r"`warmup_steps` must be below `steps` \(10\); received: 10"),
        ({"schedule": "plateau", "warmup_steps": 5}, "`warmup_steps` must be 0 with the schedule plateau; received: 5"),
        ({"batch_norm_momentum": 1}, r"`batch_norm_momentum` must be in \[0, 1\); received: 1"),
        ({"label_smoothing": 1}, r"`label_smoothing` must be in \[0, 1\); received: 1"),
        ({"ema": 1.0}, r"`ema` must be in \[0, 1\); received: 1.0"),
        ({"balance": 2}, r"`balance` must be in \[0, 1\]; received: 2"),
        ({"learning_rate": 0}, "`learning_rate` must be above 0; received: 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be above 0; received: nan"),
        ({"seed": -1}, "`seed` must be at least 0; received: -1"),
        ({"hold_out": 1}, r"`hold_out` must be in \[0, 1\); received: 1"),
        ({"train_packs": ()}, r"`train_packs` must be at least one name; received: \(\)"),
    ],
)
def test_an_invalid_value_is_named_with_what_is_allowed(change, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)
    if "seed" in change:
        with pytest.raises(ValueError, match=message):
            RunConfig(**change)
