"""Checks for layers and models on any Keras backend, and helpers to run programs and find real data."""

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
NO_SHARED = f"needs the real data, which is not in {SHARED}: set KERASTAG_SHARED to its folder"
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
needs_unicode_names = pytest.mark.skipif(
    sys.getfilesystemencoding() != "utf-8", reason="the names of files are ASCII in this locale"
)
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=NO_SHARED)
# Sizes and relations that follow from outputs which other tests compare with NumPy on every backend.
same_on_all_backends = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="the same on all backends"
)


def check_layer_saves_exactly(layer_or_model: Any, inputs: Any) -> None:
    """Check that a saved and loaded `.keras` file has bit for bit the same outputs.

    The file is loaded without `custom_objects`, so classes must be registered.

    Args:
        layer_or_model: Model, layer, or function without arguments that returns either.
        inputs: Array, or list, tuple or dictionary of arrays, as the layer is called.
    """
    import keras

    layer = layer_or_model
    if not isinstance(layer, keras.layers.Layer) and callable(layer):
        layer = layer()
    model = layer if isinstance(layer, keras.Model) else _wrap_in_model(layer, inputs)
    expected = compute_outputs(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
    actual = compute_outputs(loaded, inputs)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        np.testing.assert_array_equal(actual[name], value, err_msg=f"output {name!r} after saving and loading")


def check_batch_equals_items(model: Callable[..., Any], inputs: Any, atol: float = 1e-6, rtol: float = 1e-5) -> None:
    """Check that the outputs of each item of a batch are those of the item alone."""
    import keras

    together = compute_outputs(model, inputs)
    count = len(keras.tree.flatten(inputs)[0])
    assert count > 1, "the check needs a batch of at least two"
    for index in range(count):
        alone = compute_outputs(model, keras.tree.map_structure(lambda array, i=index: array[i : i + 1], inputs))
        for name, value in together.items():
            np.testing.assert_allclose(
                value[index : index + 1], alone[name], atol=atol, rtol=rtol, err_msg=f"output {name!r}, item {index}"
            )


def check_config_round_trip(layer: Any) -> None:
    """Check that the config survives JSON, has every argument of the constructor, and recreates the layer."""
    import json

    import keras

    config = layer.get_config()
    parameters = inspect.signature(type(layer).__init__).parameters.values()
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
    assert names <= config.keys(), f"missing in get_config(): {sorted(names - config.keys())}"
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    restored = keras.saving.deserialize_keras_object(serialized)
    assert type(restored) is type(layer)
    assert json.dumps(_convert_to_json(restored.get_config())) == json.dumps(_convert_to_json(config))


def check_masked_padding_changes_nothing(
    layer: Callable[..., Any], x: np.ndarray, mask: np.ndarray, atol: float = 1e-6, rtol: float = 1e-5
) -> None:
    """Check that the outputs of each item are those of its valid segments alone.

    A layer receives `mask`, and noise in the padding. A model computes its own mask, so its padding is rows of zeros,
    which `Masking(0.)` detects. Outputs with an axis of segments are compared for the valid segments.
    """
    import keras

    mask = np.asarray(mask, dtype=bool)
    assert mask.any(axis=1).all(), "the check needs a valid segment in every item"
    assert not mask.all(), "the check needs padding"
    is_model = isinstance(layer, keras.Model)
    padding = np.zeros_like(x) if is_model else 100 * np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
    padded = np.where(mask[:, :, None], x, padding)
    together = compute_outputs(layer, padded, mask=None if is_model else mask)
    for index, valid in enumerate(mask):
        short = x[index : index + 1, valid]
        alone = compute_outputs(layer, short, mask=None if is_model else np.ones((1, valid.sum()), dtype=bool))
        for name, value in alone.items():
            actual = together[name][index]
            if actual.ndim == 2 and actual.shape[0] == x.shape[1]:
                actual = actual[valid]
            np.testing.assert_allclose(actual, value[0], atol=atol, rtol=rtol, err_msg=f"output {name!r}, item {index}")


def randomize_weights(model: Any) -> Any:
    """Set all weights of a model to random values; initial batch normalization and zero gammas would hide errors."""
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        positive = weight.path.endswith(("gamma", "moving_variance"))
        residual = weight.path.endswith("gamma") and not weight.numpy().any()
        noise = rng.uniform(0.5, 1.5, weight.shape) if positive else weight.numpy() + rng.normal(0, 0.1, weight.shape)
        # A residual branch initially has a gamma of 0; at full scale, sixteen of them would saturate every class.
        weight.assign((0.2 * noise if residual else noise).astype(np.float32))
    return model


def compute_outputs(function: Callable[..., Any], inputs: Any, mask: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Compute the outputs of a layer, model or function, as NumPy arrays by name (or by position)."""
    import keras

    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    if isinstance(function, keras.layers.Layer):
        arguments = {} if mask is None else {"mask": keras.ops.convert_to_tensor(mask)}
        if "training" in inspect.signature(function.call).parameters:
            arguments["training"] = False
        outputs = function(tensors, **arguments)
    else:
        outputs = function(tensors)
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
    """Run code in a new interpreter that imports from the checkout, and return its standard output.

    With `check`, a nonzero exit status fails the test; without, the standard error is appended to the output.
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
        encoding="utf-8",
    )
    if not check:
        return result.stdout + result.stderr
    assert result.returncode == 0, f"status {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def _wrap_in_model(layer: Any, inputs: Any) -> Any:
    import keras

    symbolic = keras.tree.map_structure(
        lambda array: keras.Input(array.shape[1:], dtype=str(np.asarray(array).dtype)), inputs
    )
    return keras.Model(symbolic, layer(symbolic))


def _convert_to_json(config: Any) -> Any:
    """Replace the Keras objects in a config with their configs, so that two configs can be compared."""
    import keras

    if isinstance(config, Mapping):
        return {key: _convert_to_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_convert_to_json(value) for value in config]
    if config is None or isinstance(config, bool | int | float | str):
        return config
    return keras.saving.serialize_keras_object(config)


def compute_gradients(
    function: Callable[..., Any], *arrays: np.ndarray, weights: np.ndarray | None = None
) -> list[Any]:
    """Compute the gradient of `sum(weights * function(*arrays))` with respect to every array, on TensorFlow or JAX.

    On JAX, Keras variables that `function` assigns keep their values.
    """
    import keras

    def compute_sum(*tensors: Any) -> Any:
        output = keras.ops.cast(function(*tensors), "float32")
        return keras.ops.sum(output if weights is None else output * weights)

    backend = keras.backend.backend()
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = compute_sum(*tensors)
        gradients = tape.gradient(value, tensors)
    elif backend == "jax":
        import jax

        with keras.StatelessScope():
            gradients = jax.grad(compute_sum, argnums=tuple(range(len(tensors))))(*tensors)
    else:
        pytest.skip(f"needs the backend tensorflow or jax; received: {backend}")
    return [None if gradient is None else keras.ops.convert_to_numpy(gradient) for gradient in gradients]
