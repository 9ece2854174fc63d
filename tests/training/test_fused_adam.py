"""`FusedAdam` equals Adam of Keras: arguments, sparse gradients, precisions and files."""

import keras
import numpy as np
import pytest

from kerastag.training.fused_adam import FusedAdam


def train(optimizer, policy="float32"):
    """Train a network with a dense and a sparse gradient; return its variables and those of the optimizer."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(10, 4, dtype=policy),
            keras.layers.Flatten(dtype=policy),
            keras.layers.Dense(8, activation="tanh", dtype=policy),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )
    model.compile(optimizer, "mse")
    random = np.random.default_rng(0)
    model.fit(random.integers(0, 10, (40, 3)), random.standard_normal((40, 2)), batch_size=8, epochs=2, verbose=0)
    return [np.asarray(variable, "float64") for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.9, "clipnorm": 1.0},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3, "gradient_accumulation_steps": 2},
        {"amsgrad": True},
    ],
)
def test_it_equals_adam_to_rounding(arguments):
    arguments = {"learning_rate": keras.optimizers.schedules.CosineDecay(0.05, 20), **arguments}
    fused, expected = train(FusedAdam(**arguments)), train(keras.optimizers.Adam(**arguments))
    assert len(fused) == len(expected)
    for got, want in zip(fused, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


# JAX has no float64 by default.
POLICIES = ["mixed_bfloat16", "mixed_float16"] + ["float64"] * (keras.backend.backend() == "tensorflow")


@pytest.mark.parametrize("policy", POLICIES)
def test_it_equals_adam_in_every_precision(policy):
    """Under mixed_float16, `compile` wraps the optimizer so that the loss is scaled."""
    wrap = keras.optimizers.LossScaleOptimizer if policy == "mixed_float16" else lambda optimizer: optimizer
    fused, expected = (train(wrap(one(0.05)), policy) for one in (FusedAdam, keras.optimizers.Adam))
    for got, want in zip(fused, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-3)


def test_a_compiled_model_with_it_can_be_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(FusedAdam(0.02, beta_1=0.8), "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, FusedAdam)
    assert loaded.optimizer.beta_1 == 0.8
    for got, want in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


def test_tensorflow_runs_the_kernel(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other backends do not have the kernel")

    def refuse(*_):
        raise AssertionError("the implementation of Keras is used")

    monkeypatch.setattr(keras.optimizers.Adam, "update_step", refuse)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(FusedAdam(0.02), "mse")
    before = np.array(model.weights[0])
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert not np.array_equal(before, np.asarray(model.weights[0]))
