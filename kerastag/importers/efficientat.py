"""Importer of EfficientAT's MN checkpoints."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from kerastag.importers import _transfer
from kerastag.importers.torch_file import TorchFile
from kerastag.importers.torch_pickle import Tensor
from kerastag.labels import LabelSet
from kerastag.models.backbones.mn import BACKBONE, BLOCKS, HIDDEN_UNITS, mn, round_channels

__all__ = ["import_efficientat"]

_WINDOW_SECONDS = 10.0


def import_efficientat(file: str | Path, output: str | Path, *, labels: LabelSet | None = None) -> Path:
    """Convert a PyTorch checkpoint of EfficientAT's MN to a `.keras` file that takes waveforms and contains its card.

    The checkpoint may have any width (mn04 … mn40) and number of classes, which follow from its shapes. Nothing is
    written unless every tensor matches a weight by name and shape.

    Args:
        file: Path of the checkpoint, such as `mn04_as_mAP_432.pt`.
        output: Path of the model, which ends in `.keras`.
        labels: Classes of the checkpoint; None for AudioSet's 527.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: The checkpoint or the folder of the output does not exist.
        ValueError: The checkpoint is damaged, holds other things than tensors, or is of another architecture; or the
            labels do not fit.

    >>> from kerastag.importers import import_efficientat
    >>> import_efficientat("mn04_as_mAP_432.pt", "mn04_as.keras")  # doctest: +SKIP
    PosixPath('mn04_as.keras')
    """
    _transfer.check_output_path(output)
    with TorchFile(file) as checkpoint:
        tensors = _transfer.remove_batch_counters(checkpoint.list_tensors())
        num_classes, width = _read_sizes(checkpoint.path, tensors)
        labels = _transfer.resolve_labels(num_classes, labels)
        model = mn(num_classes, width=width, input="waveform")
        slots = _transfer.make_slots(model, list_layers(width), frequency_first=True)
        _transfer.fill_slots(checkpoint, f"EfficientAT's MN at width {width:g}", tensors, slots)
    return _transfer.save_model(
        model,
        output,
        labels=labels,
        front_end=BACKBONE.front_end,
        window_seconds=_WINDOW_SECONDS,
        seconds_per_frame=BACKBONE.seconds_per_output,
        origin=f"EfficientAT, {Path(file).name}",
    )


def list_layers(width: float) -> Iterator[tuple[str, str]]:
    """Yield each Keras layer of an MN with its PyTorch module."""
    yield from _list_convolution("stem", "features.0")
    for index, block in enumerate(BLOCKS, start=1):
        module, part = f"features.{index}.block", 0
        if round_channels(block.expanded * width) != round_channels(block.inputs * width):
            yield from _list_convolution(f"block{index}_expand", f"{module}.{part}")
            part += 1
        yield from _list_convolution(f"block{index}_depthwise", f"{module}.{part}")
        part += 1
        if block.squeeze_excite:
            for dense in ("fc1", "fc2"):
                yield f"block{index}_squeeze_excite_{dense}", f"{module}.{part}.conc_se_layers.0.{dense}"
            part += 1
        yield from _list_convolution(f"block{index}_project", f"{module}.{part}")
    yield from _list_convolution("last", f"features.{len(BLOCKS) + 1}")
    yield "hidden", "classifier.2"
    yield "classifier", "classifier.5"


def _list_convolution(layer: str, module: str) -> Iterator[tuple[str, str]]:
    yield f"{layer}_conv", f"{module}.0"
    yield f"{layer}_bn", f"{module}.1"


def _read_sizes(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, float]:
    """Return the number of classes and the width, from the shapes of the classifier."""
    shapes = [tensors[name].shape for name in ("classifier.5.weight", "classifier.2.weight") if name in tensors]
    if [len(shape) for shape in shapes] != [2, 2] or not all(shapes[0] + shapes[1]):
        raise ValueError(
            f"{path}: must be a checkpoint of EfficientAT's MN; received: no weights of `classifier.2` and "
            "`classifier.5`"
        )
    return shapes[0][0], shapes[1][0] / HIDDEN_UNITS
