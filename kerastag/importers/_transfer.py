"""Transfer of the tensors of a checkpoint to the weights of a Keras model, with none missing or unused."""

import glob
import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag._keras import save_model as save_keras_model
from kerastag._version import __version__
from kerastag.card import Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.files import atomic_path
from kerastag.importers.torch_file import TorchFile
from kerastag.importers.torch_pickle import Tensor
from kerastag.labels import LabelSet

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_MAX_NAMES_IN_ERROR = 6
_WINDOW_SECONDS = 10.0


def count_outputs(path: Path, system: str, weights: Mapping[str, Tensor | None]) -> list[int]:
    """Return the number of outputs of some modules from their weights, or raise if the checkpoint lacks one."""
    counts = [weight.shape[0] for weight in weights.values() if weight is not None and weight.shape]
    if len(counts) < len(weights) or not all(counts):
        names = " and ".join(f"`{module}`" for module in weights)
        raise ValueError(f"{path}: must be a checkpoint of {system}; received: no weights of {names}")
    return counts


def check_size(path: Path, system: str, width: float, num_weights: int) -> None:
    """Raise unless a checkpoint can hold the weights of a network, of which there are `num_weights` at width 1.

    A damaged description may ask for a network of any width, whose weights would fill the memory.
    """
    size = sum(file.stat().st_size for file in path.parent.glob(f"{glob.escape(path.name)}*") if file.is_file())
    expected = round(num_weights * width**2 / 2)  # a quarter of the weights, in half precision
    if size < expected:
        raise ValueError(
            f"{path}: must be a checkpoint of {system} at width {width:g}, at least {expected:,} bytes; "
            f"received: {size:,} bytes"
        )


def fill_weights(
    file: TorchFile,
    system: str,
    tensors: Mapping[str, Tensor],
    model: keras.Model,
    layers: Iterable[tuple[str, str]],
    frequency_first: bool = False,
) -> None:
    """Read every tensor into the weight of a model that it belongs to, after checking that there is exactly one.

    `layers` are pairs of a layer of the model and the PyTorch module that has its weights. `frequency_first` is whether
    the height of PyTorch's images is frequency, as in EfficientAT, rather than time, as in PANNs.
    """
    targets: dict[str, tuple[Any, tuple[int, ...]]] = {}  # variable, and the axes of the tensor in its order
    for layer_name, module in layers:
        layer = model.get_layer(layer_name)
        if isinstance(layer, keras.layers.BatchNormalization):
            targets |= {f"{module}.{theirs}": (getattr(layer, ours), (0,)) for theirs, ours in _BATCH_NORM.items()}
        else:
            targets[f"{module}.weight"] = (layer.kernel, _get_kernel_axes(layer, frequency_first))
            if layer.use_bias:
                targets[f"{module}.bias"] = (layer.bias, (0,))
    expected = {
        name: tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))
        for name, (variable, axes) in targets.items()
    }
    # Batch normalization with a fixed momentum does not need the batch counters.
    received = {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(".num_batches_tracked")}
    check_tensors(file.path, system, expected, received)
    for name, (variable, axes) in targets.items():
        variable.assign(np.transpose(check_finite(file.path, name, file.read(tensors[name])), axes))


def _get_kernel_axes(layer: keras.layers.Layer, frequency_first: bool) -> tuple[int, ...]:
    """Return the axes of PyTorch's kernel in the order of Keras."""
    if isinstance(layer, keras.layers.Dense):
        return (1, 0)
    frames, bins = (3, 2) if frequency_first else (2, 3)
    # Kernels are (out, in, height, width) in PyTorch and (frames, bins, in, out) in Keras; depthwise ones are
    # (channels, 1, height, width) and (frames, bins, channels, 1).
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return (frames, bins, 0, 1) if depthwise else (frames, bins, 1, 0)


def check_tensors(
    path: Path, system: str, expected: Mapping[str, tuple[int, ...]], received: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise unless a file has exactly the expected tensors; both mappings are from names to shapes."""
    all_faults = {
        "missing": [name for name in expected if name not in received],
        "unexpected": [name for name in received if name not in expected],
        "of another shape": [
            f"{name} is {received[name]}, not {shape}"
            for name, shape in expected.items()
            if received.get(name, shape) != shape
        ],
    }
    texts = []
    for kind, faults in all_faults.items():
        if faults:
            num_hidden = len(faults) - _MAX_NAMES_IN_ERROR
            hidden = f" and {num_hidden} more" if num_hidden > 0 else ""
            texts.append(f"{len(faults)} {kind}: {', '.join(faults[:_MAX_NAMES_IN_ERROR])}{hidden}")
    if texts:
        raise ValueError(f"{path}: must be a checkpoint of {system}; received: {'; '.join(texts)}")


def check_finite(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Return an array, or raise if it holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: `{name}` must be finite; received: {array[~np.isfinite(array)][0]}")
    return array


def resolve_labels(num_classes: int, labels: LabelSet | None) -> LabelSet:
    """Return the labels of a checkpoint; None stands for those of AudioSet."""
    hint = " (AudioSet's, the default)" if labels is None else ""
    labels = labels or LabelSet.audioset()
    if len(labels) != num_classes:
        raise ValueError(f"`labels` must name the checkpoint's {num_classes} classes; received: {len(labels)}{hint}")
    return labels


def save_model(
    model: keras.Model, output: str | Path, *, labels: LabelSet | None, front_end: str, **card_fields: Any
) -> Path:
    """Save a model as a `.keras` file that contains its card, and return its path.

    `front_end` is one of `kerastag.dsp.FRONT_ENDS`. The card has the window of ten seconds of AudioSet's clips.
    """
    definition = FRONT_ENDS[front_end]
    card = Card(
        labels=labels,
        sample_rate=definition.sample_rate,
        window_seconds=_WINDOW_SECONDS,
        front_end=definition.as_dict(),
        versions={"kerastag": __version__, "keras": importlib.metadata.version("keras")},
        **card_fields,
    )
    with atomic_path(output) as temporary_path:
        save_keras_model(model, temporary_path)
        write_card(temporary_path, card)
    return Path(output)


def check_output_path(output: str | Path) -> None:
    """Raise unless a path is one of a `.keras` file in a folder that exists."""
    output = Path(output)
    if output.suffix != ".keras":
        raise ValueError(f"`output` must end in .keras; received: {output}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"`output` must be in a folder that exists; received: {output}")
