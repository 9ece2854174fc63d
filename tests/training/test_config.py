"""Settings of a run: the published defaults, the steps of its checkpoints, and what is refused."""

import json

import pytest

from kerastag.training.settings import RunSettings, TrainingSettings


def test_the_defaults_are_the_published_run():
    settings = TrainingSettings()
    assert (settings.steps, settings.batch_size, settings.learning_rate) == (50_000, 500, 1e-3)
    assert settings.checkpoint_steps() == tuple(range(10_000, 50_001, 5_000))
    assert settings.balance == 1
    # Nothing that the paper does not have.
    assert not any((settings.mixup, settings.label_smoothing, settings.weight_decay, settings.ema))
    assert (settings.warmup_steps, settings.schedule, settings.precision) == (0, "constant", "float32")


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
def test_checkpoints_are_spread_from_a_fifth_to_the_end(steps, checkpoints, expected):
    assert TrainingSettings(steps=steps, checkpoints=checkpoints).checkpoint_steps() == expected


def test_evaluations():
    assert TrainingSettings(steps=1000).evaluation_steps() == 50
    assert TrainingSettings(steps=7).evaluation_steps() == 1
    assert TrainingSettings(steps=1000, evaluate_every=3).evaluation_steps() == 3


def test_settings_are_plain_json():
    found = TrainingSettings(train_packs=("a", "b")).as_dict()
    assert found["train_packs"] == ["a", "b"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "`steps` must be at least 1, received 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"save_every": 0}, "`save_every` must be at least 1"),
        ({"checkpoints": 0}, "`checkpoints` must be at least 1"),
        ({"evaluate_every": -1}, "`evaluate_every` must be at least 0, received -1"),
        ({"mixup": -0.5}, "`mixup` must be at least 0, received -0.5"),
        ({"weight_decay": -1}, "`weight_decay` must be at least 0"),
        ({"warmup_steps": -1}, "`warmup_steps` must be at least 0"),
        ({"steps": 10, "warmup_steps": 10}, r"`warmup_steps` must be below `steps` \(10\), received 10"),
        ({"batch_norm_momentum": 1}, r"`batch_norm_momentum` must be in \[0, 1\), received 1"),
        ({"label_smoothing": 1}, r"`label_smoothing` must be in \[0, 1\), received 1"),
        ({"ema": 1.0}, r"`ema` must be in \[0, 1\), received 1.0"),
        ({"balance": 2}, r"`balance` must be in \[0, 1\], received 2"),
        ({"learning_rate": 0}, "`learning_rate` must be above 0, received 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be above 0, received nan"),
        ({"seed": -1}, "`seed` must be at least 0, received -1"),
        ({"hold_out": 1}, r"`hold_out` must be in \[0, 1\), received 1"),
        ({"train_packs": ()}, r"`train_packs` must be at least one name, received \(\)"),
    ],
)
def test_bad_settings_are_one_clear_line(change, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**change)
    if "seed" in change:
        with pytest.raises(ValueError, match=message):
            RunSettings(**change)
