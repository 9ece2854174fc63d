"""Tensors of a checkpoint -> the weights of a Keras model, every one accounted for."""

import importlib.metadata
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag import __version__
from kerastag.card import Card, write_card
from kerastag.dsp import FRONT_ENDS
from kerastag.importers.torch_file import TorchFile
from kerastag.importers.torch_pickle import Tensor
from kerastag.labels import LabelSet

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_SHOWN = 6


@dataclass(frozen=True)
class Slot:
    """Where one tensor of the file goes: its name and shape there, the Keras weight, and the axes in between."""

    name: str
    shape: tuple[int, ...]
    weight: Any
    axes: tuple[int, ...]

    def assign(self, array: np.ndarray) -> None:
        """Put the file's array into the weight."""
        self.weight.assign(np.transpose(array, self.axes))


def slots(model: keras.Model, names: Iterable[tuple[str, str]], frequency_first: bool = False) -> list[Slot]:
    """Pairs of Keras layer and PyTorch module -> a slot for each of the layer's weights.

    PyTorch's convolutions are `(out, in, height, width)`; the image's height is time in PANNs, and frequency
    (`frequency_first`) in EfficientAT. Keras's are `(frames, bins, in, out)`.
    """
    made: list[Slot] = []
    for layer_name, module in names:
        layer = model.get_layer(layer_name)
        pairs: list[tuple[str, Any, tuple[int, ...]]]
        if isinstance(layer, keras.layers.BatchNormalization):
            pairs = [(f"{module}.{theirs}", getattr(layer, ours), (0,)) for theirs, ours in _BATCH_NORM.items()]
        else:
            pairs = [(f"{module}.weight", layer.kernel, _kernel_axes(layer, frequency_first))]
            if layer.use_bias:
                pairs.append((f"{module}.bias", layer.bias, (0,)))
        made += [Slot(name, _their_shape(weight, axes), weight, axes) for name, weight, axes in pairs]
    return made


def _kernel_axes(layer: keras.layers.Layer, frequency_first: bool) -> tuple[int, ...]:
    """Axes of PyTorch's kernel in the order of Keras's."""
    if isinstance(layer, keras.layers.Dense):
        return (1, 0)
    frames, bins = (3, 2) if frequency_first else (2, 3)
    # Depthwise: PyTorch's (channels, 1, height, width) is Keras's (frames, bins, channels, 1).
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return (frames, bins, 0, 1) if depthwise else (frames, bins, 1, 0)


def _their_shape(weight: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    shape = [0] * len(axes)
    for ours, theirs in enumerate(axes):
        shape[theirs] = weight.shape[ours]
    return tuple(shape)


def check_names(path: Path, system: str, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, Any]) -> None:
    """Raise, with names, unless a file has exactly the tensors that are wanted, in their shapes.

    `found` maps a name to its shape.
    """
    missing = [name for name in wanted if name not in found]
    left_over = [name for name in found if name not in wanted]
    wrong = [
        f"{name} is {tuple(found[name])}, not {shape}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != shape
    ]
    faults = [("missing", missing), ("left over", left_over), ("of another shape", wrong)]
    if any(names for _, names in faults):
        lines = [f"{len(names)} {what}: {_list(names)}" for what, names in faults if names]
        raise ValueError(f"{path}: is no checkpoint of {system}: {'; '.join(lines)}")


def fill(file: TorchFile, system: str, tensors: Mapping[str, Tensor], places: list[Slot]) -> None:
    """Read every tensor into its slot, after all of them have been accounted for."""
    check_names(
        file.path,
        system,
        {place.name: place.shape for place in places},
        {name: tensor.shape for name, tensor in tensors.items()},
    )
    for place in places:
        array = file.read(tensors[place.name])
        if not np.isfinite(array).all():
            raise ValueError(f"{file.path}: `{place.name}` holds values that are not finite")
        place.assign(array)


def class_labels(num_classes: int, labels: LabelSet | None) -> LabelSet:
    """The given labels, or AudioSet's where a checkpoint has its number of classes."""
    if labels is None:
        labels = LabelSet.audioset()
        hint = " (AudioSet's, as none were given)"
    else:
        hint = ""
    if len(labels) != num_classes:
        raise ValueError(f"`labels` must name the checkpoint's {num_classes} classes, received {len(labels)}{hint}")
    return labels


def save(model: keras.Model, output: str | Path, *, labels: LabelSet | None, front_end: str, **card: Any) -> Path:
    """Model and what its card says -> a `.keras` file with the card inside, written beside and renamed."""
    output = check_output(output)
    definition = FRONT_ENDS[front_end]
    written = Card(
        labels=labels,
        sample_rate=definition.sample_rate,
        front_end=definition.as_dict(),
        versions={"kerastag": __version__, "keras": importlib.metadata.version("keras")},
        **card,
    )
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".kerastag-") as folder:
        beside = Path(folder) / output.name
        model.save(beside)
        write_card(beside, written)
        beside.replace(output)
    return output


def check_output(output: str | Path) -> Path:
    """Raise unless `output` is a `.keras` path in a folder that exists."""
    output = Path(output)
    if output.suffix != ".keras":
        raise ValueError(f"`output` must end in .keras, received {output}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"`output`: no such folder: {output.parent}")
    return output


def _list(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
