"""Importer of TALNet's checkpoints."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kerastag.dsp import FRONT_ENDS
from kerastag.files import read_arrays
from kerastag.importers import _transfer
from kerastag.importers.torch_file import TorchFile
from kerastag.labels import LabelSet
from kerastag.models.backbones._panns import EPSILON
from kerastag.models.backbones.talnet import BACKBONE, BLOCKS, talnet

__all__ = ["import_talnet"]

_NUM_WEIGHTS = 9_900_000
_SIZE = FRONT_ENDS[BACKBONE.front_end].num_mel_bins


class _Weight(NamedTuple):
    """A variable of the model, the tensors that it is computed from with their shapes, and how."""

    variable: Any
    shapes: dict[str, tuple[int, ...]]
    compute: Callable[..., np.ndarray]


def import_talnet(
    file: str | Path, output: str | Path, *, normalizer: str | Path, labels: LabelSet | None = None
) -> Path:
    """Convert a PyTorch checkpoint of TALNet to a `.keras` file that takes waveforms and contains its card.

    The checkpoint may have any embedding size and number of classes, which follow from its shapes. The biases of its
    convolutions become part of batch normalization, the gates of its recurrent layer get the order of Keras, and the
    inputs of that layer the order in which Keras flattens (bins, channels).

    Args:
        file: Path of the checkpoint, such as `TALNet.pt`, or `checkpoint5.pt` of its training.
        output: Path of the model, which ends in `.keras`; it is returned.
        normalizer: Path of an `.npz` file with the arrays `mean` and `std` by which log-mel is normalized, one number
            or 64 each. They are not in the checkpoint, but in TALNet's `normalizer.pkl`, which you can convert:
            `mean, std = pickle.load(open("normalizer.pkl", "rb"), encoding="latin1")`, then `np.savez`.
        labels: Classes of the checkpoint; None for AudioSet's 527.

    Raises:
        FileNotFoundError: A file or the folder of the output does not exist.
        ValueError: The checkpoint is damaged, holds other things than tensors, or is of another architecture; the
            normalizer is not one; or the labels do not fit.

    >>> from kerastag.importers import import_talnet
    >>> import_talnet("TALNet.pt", "talnet.keras", normalizer="normalizer.npz")  # doctest: +SKIP
    PosixPath('talnet.keras')
    """
    _transfer.check_output_path(output)
    mean, variance = _read_normalizer(Path(normalizer))
    with TorchFile(file) as checkpoint:
        tensors = checkpoint.list_tensors()
        modules = {module: tensors.get(f"{module}.weight") for module in ("fc_prob", "conv1.conv")}
        num_classes, channels = _transfer.count_outputs(checkpoint.path, "TALNet", modules)
        labels = _transfer.resolve_labels(num_classes, labels)
        width = channels / BLOCKS[0][0]
        _transfer.check_size(checkpoint.path, "TALNet", width, _NUM_WEIGHTS)
        model = talnet(num_classes, width=width, input="waveform")
        weights = list(_list_weights(model))
        expected = {name: shape for weight in weights for name, shape in weight.shapes.items()}
        received = {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(".num_batches_tracked")}
        _transfer.check_tensors(checkpoint.path, f"TALNet at width {width:g}", expected, received)
        for weight in weights:
            arrays = (checkpoint.read(tensors[name]) for name in weight.shapes)
            checked = (
                _transfer.check_finite(checkpoint.path, *pair) for pair in zip(weight.shapes, arrays, strict=True)
            )
            weight.variable.assign(weight.compute(*checked))
    normalization = model.get_layer("bn0")
    normalization.moving_mean.assign(mean)
    normalization.moving_variance.assign(variance)
    return _transfer.save_model(
        model,
        output,
        labels=labels,
        front_end=BACKBONE.front_end,
        seconds_per_frame=BACKBONE.seconds_per_output,
        origin=f"TALNet, {Path(file).name}",
    )


def _read_normalizer(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the mean of every mel bin, and the variance that batch normalization needs for the standard deviation."""
    arrays = read_arrays(path)
    for name in ("mean", "std"):
        array = arrays.get(name)
        if array is None or array.dtype.kind not in "fiu" or array.size not in (1, _SIZE):
            received = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise ValueError(f"{path}: `{name}` must be one number or {_SIZE} numbers; received: {received}")
        _transfer.check_finite(path, name, array)
    mean, std = (np.broadcast_to(arrays[name].reshape(-1).astype(np.float64), _SIZE) for name in ("mean", "std"))
    variance = std**2 - EPSILON  # which batch normalization adds
    if not (std > 0).all() or not (variance >= 0).all():
        raise ValueError(f"{path}: `std` must be at least {EPSILON**0.5:.4f}; received: {std.min():g}")
    return mean, variance


def _list_weights(model: keras.Model) -> Iterator[_Weight]:
    """Yield every weight of TALNet but those of the normalization of the input."""
    for block in range(1, len(BLOCKS) + 1):
        for part in (1, 2):
            module = f"conv{2 * (block - 1) + part}"
            kernel = model.get_layer(f"block{block}_conv{part}").kernel
            *size, inputs, outputs = kernel.shape  # (frames, bins, in, out); in PyTorch (out, in, frames, bins)
            shapes = {f"{module}.conv.weight": (outputs, inputs, *size)}
            yield _Weight(kernel, shapes, lambda weight: weight.transpose(2, 3, 1, 0))
            yield from _list_normalization(model.get_layer(f"block{block}_bn{part}"), module, (outputs,))
    recurrent = model.get_layer("recurrent")
    for layer, suffix in ((recurrent.forward_layer, ""), (recurrent.backward_layer, "_reverse")):
        yield from _list_gru(layer.cell, suffix, channels=outputs)  # those of the last convolution
    classifier = model.get_layer("classifier")
    yield _Weight(classifier.kernel, {"fc_prob.weight": classifier.kernel.shape[::-1]}, np.transpose)
    yield _Weight(classifier.bias, {"fc_prob.bias": classifier.bias.shape}, np.asarray)


def _list_normalization(layer: Any, module: str, shape: tuple[int, ...]) -> Iterator[_Weight]:
    yield _Weight(layer.gamma, {f"{module}.bn.weight": shape}, np.asarray)
    yield _Weight(layer.beta, {f"{module}.bn.bias": shape}, np.asarray)
    # Subtracting a smaller mean adds the bias of the convolution.
    shapes = {f"{module}.bn.running_mean": shape, f"{module}.conv.bias": shape}
    yield _Weight(layer.moving_mean, shapes, np.subtract)
    yield _Weight(layer.moving_variance, {f"{module}.bn.running_var": shape}, np.asarray)


def _list_gru(cell: Any, suffix: str, channels: int) -> Iterator[_Weight]:
    """Yield the weights of one direction, whose inputs are `channels` times the bins that are left after pooling."""

    def flatten_bins_first(weight: np.ndarray) -> np.ndarray:
        by_channel = weight.reshape(len(weight), channels, -1)  # (3 * units, channels, bins)
        return _reorder_gates(by_channel.transpose(0, 2, 1).reshape(len(weight), -1)).T

    inputs, gates = cell.kernel.shape
    yield _Weight(cell.kernel, {f"gru.weight_ih_l0{suffix}": (gates, inputs)}, flatten_bins_first)
    shapes = {f"gru.weight_hh_l0{suffix}": cell.recurrent_kernel.shape[::-1]}
    yield _Weight(cell.recurrent_kernel, shapes, lambda weight: _reorder_gates(weight).T)
    shapes = {f"gru.bias_{part}_l0{suffix}": (gates,) for part in ("ih", "hh")}
    yield _Weight(cell.bias, shapes, lambda *biases: np.stack([_reorder_gates(bias) for bias in biases]))


def _reorder_gates(array: np.ndarray) -> np.ndarray:
    """Reorder gates on the first axis: reset, update and new in PyTorch; update, reset and new in Keras."""
    reset, update, new = np.split(array, 3)
    return np.concatenate([update, reset, new])
