"""Checks that hold for every layer and model, on any Keras backend, and the ways tests reach the outside."""

import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("KERASTAG_SHARED") or ROOT.parent / "shared").resolve()
NO_SHARED = f"no real data at {SHARED}: set KERASTAG_SHARED to its folder"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=NO_SHARED)


def check_layer_saves_exactly(layer_or_model: Any, inputs: Any) -> None:
    """A `.keras` file, saved and loaded, gives bit for bit the same outputs.

    Takes a model, a layer, or a function without arguments that makes either; `inputs` is an array, or a list,
    tuple or dict of arrays, as the layer is called. Loading gets no `custom_objects`: classes must be registered.
    """
    import keras

    made = layer_or_model
    if not isinstance(made, keras.layers.Layer) and callable(made):
        made = made()
    model = made if isinstance(made, keras.Model) else _model_around(made, inputs)
    expected = outputs_of(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
    actual = outputs_of(loaded, inputs)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        np.testing.assert_array_equal(actual[name], value, err_msg=f"output {name!r} after saving and loading")


def check_batch_equals_items(model: Callable[..., Any], inputs: Any, atol: float = 1e-6, rtol: float = 1e-5) -> None:
    """Every item of a batch gets what it would get alone."""
    import keras

    together = outputs_of(model, inputs)
    count = len(keras.tree.flatten(inputs)[0])
    assert count > 1, "a batch of one proves nothing"
    for index in range(count):
        alone = outputs_of(model, keras.tree.map_structure(lambda array, i=index: array[i : i + 1], inputs))
        for name, value in together.items():
            np.testing.assert_allclose(
                value[index : index + 1], alone[name], atol=atol, rtol=rtol, err_msg=f"output {name!r}, item {index}"
            )


def check_config_round_trip(layer: Any) -> None:
    """The config survives JSON, names every argument of the constructor, and gives the same config back."""
    import json

    import keras

    config = layer.get_config()
    parameters = inspect.signature(type(layer).__init__).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
    assert named <= config.keys(), f"missing in get_config(): {sorted(named - config.keys())}"
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(serialized)
    assert type(again) is type(layer)
    assert json.dumps(_plain(again.get_config())) == json.dumps(_plain(config))


def check_masked_padding_changes_nothing(
    layer: Callable[..., Any], x: np.ndarray, mask: np.ndarray, atol: float = 1e-6, rtol: float = 1e-5
) -> None:
    """Each item gets what its valid segments alone would give, whatever stands in the padding.

    A layer is given `mask` and noise in the padding. A model finds its own mask: there padding is zero rows, which is
    what its `Masking(0.)` reads. Outputs that keep the axis of segments are compared on the valid ones.
    """
    import keras

    mask = np.asarray(mask, dtype=bool)
    assert mask.any(axis=1).all(), "every item needs a valid segment"
    assert not mask.all(), "without padding this check proves nothing"
    is_model = isinstance(layer, keras.Model)
    padding = np.zeros_like(x) if is_model else 100 * np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
    padded = np.where(mask[:, :, None], x, padding)
    together = outputs_of(layer, padded, mask=None if is_model else mask)
    for index, valid in enumerate(mask):
        short = x[index : index + 1, valid]
        alone = outputs_of(layer, short, mask=None if is_model else np.ones((1, valid.sum()), dtype=bool))
        for name, value in alone.items():
            got = together[name][index]
            if got.ndim == 2 and got.shape[0] == x.shape[1]:
                got = got[valid]
            np.testing.assert_allclose(got, value[0], atol=atol, rtol=rtol, err_msg=f"output {name!r}, item {index}")


def awake(model: Any) -> Any:
    """Give every weight a value of its own: fresh BatchNorms and zero gammas would hide mistakes."""
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        positive = weight.path.endswith(("gamma", "moving_variance"))
        residual = weight.path.endswith("gamma") and not weight.numpy().any()
        noise = rng.uniform(0.5, 1.5, weight.shape) if positive else weight.numpy() + rng.normal(0, 0.1, weight.shape)
        # A residual branch is scaled by zero at first; at full scale sixteen of them would saturate every class.
        weight.assign((0.2 * noise if residual else noise).astype(np.float32))
    return model


def outputs_of(called: Callable[..., Any], inputs: Any, mask: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Call a layer, a model or a function and return its outputs as NumPy arrays by name (or by position)."""
    import keras

    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    if isinstance(called, keras.layers.Layer):
        arguments = {} if mask is None else {"mask": keras.ops.convert_to_tensor(mask)}
        if called._call_has_training_arg:
            arguments["training"] = False
        outputs = called(tensors, **arguments)
    else:
        outputs = called(tensors)
    if not isinstance(outputs, Mapping):
        flat = keras.tree.flatten(outputs)
        outputs = {str(position): tensor for position, tensor in enumerate(flat)}
    return {name: keras.ops.convert_to_numpy(tensor) for name, tensor in outputs.items()}


def run_python(
    code: str,
    env: Mapping[str, str] | None = None,
    cwd: str | Path = ROOT,
    timeout: float = 120,
    check: bool = True,
    flags: Sequence[str] = (),
) -> str:
    """Run `code` in a fresh interpreter with the checkout on its path; return what it wrote to standard output.

    With `check`, a non-zero status fails the test with what the program said; without, its standard error is
    returned after its standard output.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, *flags, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if not check:
        return result.stdout + result.stderr
    assert result.returncode == 0, f"status {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def _model_around(layer: Any, inputs: Any) -> Any:
    import keras

    symbolic = keras.tree.map_structure(
        lambda array: keras.Input(array.shape[1:], dtype=str(np.asarray(array).dtype)), inputs
    )
    return keras.Model(symbolic, layer(symbolic))


def _plain(config: Any) -> Any:
    """Nested Keras objects in a config become their own configs, so that two configs compare."""
    import keras

    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_plain(value) for value in config]
    if config is None or isinstance(config, bool | int | float | str):
        return config
    return keras.saving.serialize_keras_object(config)


def gradients_of(function: Callable[..., Any], *arrays: np.ndarray, weights: np.ndarray | None = None) -> list[Any]:
    """The gradient of `sum(weights * function(*arrays))` with respect to every array, on TensorFlow or JAX.

    Keras variables that `function` assigns keep their values on JAX.
    """
    import keras

    def total(*tensors: Any) -> Any:
        output = keras.ops.cast(function(*tensors), "float32")
        return keras.ops.sum(output if weights is None else output * weights)

    backend = keras.backend.backend()
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = total(*tensors)
        gradients = tape.gradient(value, tensors)
    elif backend == "jax":
        import jax

        with keras.StatelessScope():
            gradients = jax.grad(total, argnums=tuple(range(len(tensors))))(*tensors)
    else:
        pytest.skip(f"no gradients on the backend {backend} here")
    return [None if gradient is None else keras.ops.convert_to_numpy(gradient) for gradient in gradients]
