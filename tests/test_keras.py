"""The private API of Keras that kerastag relies on: each test names the function of `kerastag._keras` to adapt."""

import zipfile

import keras
import numpy as np
import pytest

from kerastag import _keras

ADAPT = "Keras has changed: adapt `kerastag._keras.{}`"


@pytest.fixture
def model():
    inner_input = keras.Input((3,), name="inner_input")
    inner = keras.Model(
        inner_input, keras.layers.Dense(2, kernel_initializer="ones", name="inner_dense")(inner_input), name="inner"
    )
    inputs = keras.Input((3,), name="inputs")
    return keras.Model(inputs, keras.layers.ReLU(name="relu")(inner(inputs)), name="outer")


def test_flatten_layers_includes_the_model_and_the_layers_of_nested_models(model):
    names = {layer.name for layer in _keras.flatten_layers(model)}
    assert {"outer", "inner", "inner_dense", "relu"} <= names, ADAPT.format("flatten_layers")


def test_list_ancestors_is_in_topological_order(model):
    shapes = [tuple(tensor.shape) for tensor in _keras.list_ancestors(model.output).values()]
    assert shapes == [(None, 3), (None, 2), (None, 2)], ADAPT.format("list_ancestors")


@pytest.mark.parametrize("wrapped", [False, True])
def test_get_averaged_variables_returns_one_average_per_weight(model, wrapped):
    optimizer = keras.optimizers.Adam(use_ema=True, ema_momentum=0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if wrapped else optimizer
    optimizer.build(model.trainable_variables)
    averages = _keras.get_averaged_variables(optimizer)
    shapes = [tuple(average.shape) for average in averages]
    assert shapes == [tuple(weight.shape) for weight in model.trainable_weights], ADAPT.format("get_averaged_variables")
    assert _keras.get_averaged_variables(keras.optimizers.Adam()) == []


def test_sync_jax_state_makes_the_weights_current_within_fit(model):
    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            _keras.sync_jax_state(self.model)
            self.weights = self.model.get_weights()

    recorder = Recorder()
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(np.ones((4, 3)), np.ones((4, 2)), batch_size=4, verbose=0, callbacks=[recorder])
    assert not np.array_equal(recorder.weights[1], before[1]), ADAPT.format("sync_jax_state")


def test_a_saved_model_has_the_same_bytes_at_any_time(tmp_path):
    def build():
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        shared = keras.layers.Dense(4, name="shared", kernel_regularizer=keras.regularizers.L2(0.1))
        return keras.Model(inputs, keras.layers.Activation(keras.layers.ReLU())(shared(shared(inputs))))

    model = build()
    for name, model_of_file in (("a.keras", model), ("b.keras", build())):
        _keras.save_model(model_of_file, tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes(), ADAPT.format("save_model")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert "date_saved" not in archive.read("metadata.json").decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]
