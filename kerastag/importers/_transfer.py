"""Transfer of the tensors of a checkpoint to the weights of a Keras model, with none missing or unused."""

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag._version import __version__
from kerastag.card import Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.files import atomic_path
from kerastag.importers.torch_file import TorchFile
from kerastag.importers.torch_pickle import Tensor
from kerastag.labels import LabelSet

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_MAX_NAMES_IN_ERROR = 6


@dataclass(frozen=True)
class Slot:
    """Destination of one tensor of a checkpoint.

    Attributes:
        name: Name of the tensor in the checkpoint.
        shape: Shape of the tensor in the checkpoint.
        weight: Variable of the Keras model.
        axes: Axes of the tensor in the order of the variable.
    """

    name: str
    shape: tuple[int, ...]
    weight: Any
    axes: tuple[int, ...]

    def assign(self, array: np.ndarray) -> None:
        """Assign the array of the checkpoint to the variable."""
        self.weight.assign(np.transpose(array, self.axes))


def make_slots(model: keras.Model, layers: Iterable[tuple[str, str]], frequency_first: bool = False) -> list[Slot]:
    """Create a slot for each weight of some layers.

    Args:
        model: Keras model.
        layers: Pairs of a layer of the model and the PyTorch module that has its weights.
        frequency_first: Whether the height of PyTorch's images is frequency, as in EfficientAT, rather than time, as in
            PANNs. PyTorch's kernels are `(out, in, height, width)`, those of Keras `(frames, bins, in, out)`.
    """
    slots: list[Slot] = []
    for layer_name, module in layers:
        layer = model.get_layer(layer_name)
        weights: list[tuple[str, Any, tuple[int, ...]]]
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = [(f"{module}.{theirs}", getattr(layer, ours), (0,)) for theirs, ours in _BATCH_NORM.items()]
        else:
            weights = [(f"{module}.weight", layer.kernel, _get_kernel_axes(layer, frequency_first))]
            if layer.use_bias:
                weights.append((f"{module}.bias", layer.bias, (0,)))
        slots += [Slot(name, _invert_axes(weight.shape, axes), weight, axes) for name, weight, axes in weights]
    return slots


def _get_kernel_axes(layer: keras.layers.Layer, frequency_first: bool) -> tuple[int, ...]:
    """Return the axes of PyTorch's kernel in the order of Keras."""
    if isinstance(layer, keras.layers.Dense):
        return (1, 0)
    frames, bins = (3, 2) if frequency_first else (2, 3)
    # Depthwise kernels are (channels, 1, height, width) in PyTorch and (frames, bins, channels, 1) in Keras.
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return (frames, bins, 0, 1) if depthwise else (frames, bins, 1, 0)


def _invert_axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axes.index(axis)] for axis in range(len(axes)))


def remove_batch_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without the batch counters of batch normalization, which a fixed momentum does not need."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".num_batches_tracked")}


def check_tensors(
    path: Path, system: str, expected: Mapping[str, tuple[int, ...]], received: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise unless a file has exactly the expected tensors; both mappings are from names to shapes."""
    missing = [name for name in expected if name not in received]
    unexpected = [name for name in received if name not in expected]
    other_shapes = [
        f"{name} is {tuple(received[name])}, not {shape}"
        for name, shape in expected.items()
        if name in received and tuple(received[name]) != shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", other_shapes)]
    if any(names for _, names in faults):
        received_text = "; ".join(f"{len(names)} {fault}: {_shorten(names)}" for fault, names in faults if names)
        raise ValueError(f"{path}: must be a checkpoint of {system}; received: {received_text}")


def fill_slots(file: TorchFile, system: str, tensors: Mapping[str, Tensor], slots: list[Slot]) -> None:
    """Read every tensor into its slot, after checking that there is exactly one for each."""
    check_tensors(
        file.path,
        system,
        {slot.name: slot.shape for slot in slots},
        {name: tensor.shape for name, tensor in tensors.items()},
    )
    for slot in slots:
        slot.assign(check_finite(file.path, slot.name, file.read(tensors[slot.name])))


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
    """Save a model as a `.keras` file that contains its card.

    Args:
        model: Keras model.
        output: Path that ends in `.keras`.
        labels: Classes of the model; None for a model of embeddings.
        front_end: Name of the front end in `kerastag.dsp.FRONT_ENDS`.
        card_fields: Other fields of the card.

    Returns:
        `output`.
    """
    output = check_output_path(output)
    definition = FRONT_ENDS[front_end]
    card = Card(
        labels=labels,
        sample_rate=definition.sample_rate,
        front_end=definition.as_dict(),
        versions={"kerastag": __version__, "keras": importlib.metadata.version("keras")},
        **card_fields,
    )
    with atomic_path(output) as temporary_path:
        model.save(temporary_path)
        write_card(temporary_path, card)
    return output


def check_output_path(output: str | Path) -> Path:
    """Return the path of an output, or raise unless it is a `.keras` file in a folder that exists."""
    output = Path(output)
    if output.suffix != ".keras":
        raise ValueError(f"`output` must end in .keras; received: {output}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"`output` must be in a folder that exists; received: {output}")
    return output


def _shorten(names: list[str]) -> str:
    num_hidden = len(names) - _MAX_NAMES_IN_ERROR
    return ", ".join(names[:_MAX_NAMES_IN_ERROR]) + (f" and {num_hidden} more" if num_hidden > 0 else "")
