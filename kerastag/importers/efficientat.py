"""EfficientAT's MN checkpoints."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from kerastag.importers import _transfer
from kerastag.importers.torch_file import TorchFile
from kerastag.importers.torch_pickle import Tensor
from kerastag.labels import LabelSet
from kerastag.models.mn import BACKBONE, HIDDEN_UNITS, ROWS, mn, rounded

WINDOW_SECONDS = 10.0


def import_efficientat(file: str | Path, output: str | Path, *, labels: LabelSet | None = None) -> Path:
    """EfficientAT's PyTorch state dict of an MN -> a `.keras` file from waveform to tags, with its card inside.

    Any width (mn04 … mn40) and number of classes: both are read off the shapes. Every tensor of the file finds its
    place, by name and shape, or nothing is written.

    Args:
        file: Such as `mn04_as_mAP_432.pt`.
        output: Path that ends in `.keras`.
        labels: The classes; AudioSet's where there are 527 of them and none are given.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: There is no such file, or no folder for the output.
        ValueError: The file is damaged, holds more than tensors, or another architecture; the labels do not fit.

    >>> import_efficientat("mn04_as_mAP_432.pt", "mn04_as.keras")  # doctest: +SKIP
    PosixPath('mn04_as.keras')
    """
    _transfer.check_output(output)
    with TorchFile(file) as checkpoint:
        tensors = _without_counters(checkpoint.tensors())
        num_classes, width = _sizes(checkpoint.path, tensors)
        classes = _transfer.class_labels(num_classes, labels)
        model = mn(num_classes, width=width, input="waveform")
        places = _transfer.slots(model, layer_names(width), frequency_first=True)
        _transfer.fill(checkpoint, f"EfficientAT's MN at width {width:g}", tensors, places)
    return _transfer.save(
        model,
        output,
        labels=classes,
        front_end=BACKBONE.front_end,
        window_seconds=WINDOW_SECONDS,
        seconds_per_frame=BACKBONE.seconds_per_output,
        origin=f"EfficientAT, {Path(file).name}",
    )


def layer_names(width: float) -> Iterator[tuple[str, str]]:
    """Keras layer -> PyTorch module, for an MN at a width."""
    yield from _convolution("stem", "features.0")
    for index, row in enumerate(ROWS, start=1):
        module, part = f"features.{index}.block", 0
        if rounded(row.expanded * width) != rounded(row.inputs * width):
            yield from _convolution(f"block{index}_expand", f"{module}.{part}")
            part += 1
        yield from _convolution(f"block{index}_depthwise", f"{module}.{part}")
        part += 1
        if row.squeeze_excite:
            for dense in ("fc1", "fc2"):
                yield f"block{index}_squeeze_excite_{dense}", f"{module}.{part}.conc_se_layers.0.{dense}"
            part += 1
        yield from _convolution(f"block{index}_project", f"{module}.{part}")
    yield from _convolution("last", f"features.{len(ROWS) + 1}")
    yield "hidden", "classifier.2"
    yield "classifier", "classifier.5"


def _convolution(layer: str, module: str) -> Iterator[tuple[str, str]]:
    yield f"{layer}_conv", f"{module}.0"
    yield f"{layer}_bn", f"{module}.1"


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, float]:
    """Number of classes and width, off the classifier's shapes."""
    shapes = [tensors[name].shape for name in ("classifier.5.weight", "classifier.2.weight") if name in tensors]
    if [len(shape) for shape in shapes] != [2, 2] or not all(shapes[0] + shapes[1]):
        raise ValueError(f"{path}: is no checkpoint of EfficientAT's MN (no `classifier.2` and `classifier.5` in it)")
    return shapes[0][0], shapes[1][0] / HIDDEN_UNITS


def _without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out how many batches BatchNorm has seen: with a fixed momentum nothing reads it."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".num_batches_tracked")}
