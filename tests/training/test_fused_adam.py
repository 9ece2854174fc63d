"""One kernel's Adam against Keras's: settings, kinds of gradients, number types, files."""

import keras
import numpy as np
import pytest

from kerastag.training.fused_adam import FusedAdam


def trained(optimizer, policy="float32"):
    """A network with a dense and a sparse gradient -> all its variables and its optimizer's after ten steps."""
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
    "settings",
    [
        {"weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.9, "clipnorm": 1.0},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3, "gradient_accumulation_steps": 2},
        {"amsgrad": True},
    ],
)
def test_is_adam_to_rounding(settings):
    settings = {"learning_rate": keras.optimizers.schedules.CosineDecay(0.05, 20), **settings}
    found, expected = trained(FusedAdam(**settings)), trained(keras.optimizers.Adam(**settings))
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


# JAX has no float64 unless it is told to.
POLICIES = ["mixed_bfloat16", "mixed_float16"] + ["float64"] * (keras.backend.backend() == "tensorflow")


@pytest.mark.parametrize("policy", POLICIES)
def test_is_adam_in_every_precision(policy):
    """float16 multiplies its loss and divides the gradients again, as `compile` arranges."""
    wrap = keras.optimizers.LossScaleOptimizer if policy == "mixed_float16" else lambda optimizer: optimizer
    found, expected = (trained(wrap(one(0.05)), policy) for one in (FusedAdam, keras.optimizers.Adam))
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-2, atol=1e-3)


def test_a_compiled_model_is_saved_with_it(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(FusedAdam(0.02, beta_1=0.8), "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, FusedAdam)
    assert loaded.optimizer.beta_1 == 0.8
    for got, wanted in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted))


def test_the_kernel_is_what_runs(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("another backend's compiler fuses by itself")

    def refuse(*_):
        raise AssertionError("Keras's own")

    monkeypatch.setattr(keras.optimizers.Adam, "update_step", refuse)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(FusedAdam(0.02), "mse")
    before = np.array(model.weights[0])
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert not np.array_equal(before, np.asarray(model.weights[0]))
