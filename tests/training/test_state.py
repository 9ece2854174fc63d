"""Tests of the state of a run: every variable bit for bit, and training that continues as if never interrupted."""

import keras
import numpy as np
import pytest

from kerastag.models.embedding_models import feature_attention
from kerastag.training.config import TrainingConfig
from kerastag.training.optimization import compile_model
from kerastag.training.outputs import select_training_outputs
from kerastag.training.state import load_state, save_state

RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(-1, 1, (6, 4, 3)).astype("float32")
Y = (RANDOM.random((6, 2)) < 0.5).astype("float32")


def build(units=4, precision="float32", seed=0):
    """Build a model with dropout, an optimizer with moments and averages, and a schedule that counts steps."""
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    config = TrainingConfig(steps=100, ema=0.9, schedule="cosine", warmup_steps=5, weight_decay=0.01)
    model = feature_attention(num_classes=2, num_features=3, units=units, depth=1)
    return compile_model(select_training_outputs(model), config)


def variables(model):
    return [np.asarray(v) for v in (*model.variables, *model.optimizer.variables)]


def test_every_variable_is_restored_and_training_continues_as_if_never_interrupted(tmp_path):
    """In mixed_float16, which has the variables of the other precisions and those of the loss scale."""
    model = build(precision="mixed_float16")
    for _ in range(3):
        model.train_on_batch(X, Y)
    save_state(tmp_path / "state.npz", model, {"step": 3, "rows": [{"mAP": 0.1}]})
    values = variables(model)
    other = build(precision="mixed_float16", seed=1)
    assert any((a != b).any() for a, b in zip(variables(other), values, strict=True))
    assert load_state(tmp_path / "state.npz", other) == {"step": 3, "rows": [{"mAP": 0.1}]}
    assert any("seed_generator" in v.path for v in other.variables)
    for actual, expected in zip(variables(other), values, strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
    for _ in range(2):
        model.train_on_batch(X, Y)
        other.train_on_batch(X, Y)
    for actual, expected in zip(variables(other), variables(model), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert any((a != b).any() for a, b in zip(variables(model), values, strict=True))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.npz"
    save_state(path, build(), {"step": 0})
    return path.read_bytes()


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 8]) + content[middle + 8 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-30],
        lambda content: b"",
        lambda content: b"not a state",
        lambda content: b"PK\x03\x04" + 100 * b"\x00",
        flip,
    ],
    ids=["half", "cut", "empty", "text", "header", "flipped"],
)
def test_a_damaged_state_is_one_clear_line(tmp_path, saved, damage):
    path = tmp_path / "state.npz"
    path.write_bytes(damage(saved))
    model = build()
    before = variables(model)
    with pytest.raises(ValueError, match=r"state.npz: not a complete .npz file \(") as caught:
        load_state(path, model)
    assert "\n" not in str(caught.value)
    for actual, expected in zip(variables(model), before, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_other_numpy_files_are_rejected(tmp_path):
    path = tmp_path / "state.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="state.npz: not a complete .npz file"):
        load_state(path, build())
    np.savez(path, a=np.zeros(3))
    with pytest.raises(ValueError, match="state.npz: not a complete training state"):
        load_state(path, build())
    for progress in ("[]", "null", "{}", '{"paths": 5}', '{"paths": [5]}', "{", "[" * 100_000):
        np.savez(path, progress=np.array(progress))
        with pytest.raises(ValueError, match="state.npz: not a complete training state"):
            load_state(path, build())


def test_the_state_of_another_model_is_rejected(tmp_path, saved):
    path = tmp_path / "state.npz"
    path.write_bytes(saved)
    with pytest.raises(ValueError, match="state.npz: the training state of another model"):
        load_state(path, build(units=5))
