"""Importer of EfficientAT's MN checkpoints."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from kerastag.importers import _transfer
from kerastag.importers.torch_file import TorchFile
from kerastag.labels import LabelSet
from kerastag.models.backbones.mn import BACKBONE, BLOCKS, HIDDEN_UNITS, mn, round_channels

__all__ = ["import_efficientat"]

_NUM_WEIGHTS = 4_900_000


def import_efficientat(file: str | Path, output: str | Path, *, labels: LabelSet | None = None) -> Path:
    """Convert a PyTorch checkpoint of EfficientAT's MN to a `.keras` file that takes waveforms and contains its card.

    The checkpoint may have any width (mn04 … mn40) and number of classes, which follow from its shapes. Arguments,
    result and errors are those of `import_panns`.

    >>> from kerastag.importers import import_efficientat
    >>> import_efficientat("mn04_as_mAP_432.pt", "mn04_as.keras")  # doctest: +SKIP
    PosixPath('mn04_as.keras')
    """
    _transfer.check_output_path(output)
    with TorchFile(file) as checkpoint:
        tensors = checkpoint.list_tensors()
        classifier = {module: tensors.get(f"{module}.weight") for module in ("classifier.2", "classifier.5")}
        hidden_units, num_classes = _transfer.count_outputs(checkpoint.path, "EfficientAT's MN", classifier)
        width = hidden_units / HIDDEN_UNITS
        labels = _transfer.resolve_labels(num_classes, labels)
        _transfer.check_size(checkpoint.path, "EfficientAT's MN", width, _NUM_WEIGHTS)
        model = mn(num_classes, width=width, input="waveform")
        system = f"EfficientAT's MN at width {width:g}"
        _transfer.fill_weights(checkpoint, system, tensors, model, _list_layers(width), frequency_first=True)
    return _transfer.save_model(
        model,
        output,
        labels=labels,
        front_end=BACKBONE.front_end,
        seconds_per_frame=BACKBONE.seconds_per_output,
        origin=f"EfficientAT, {Path(file).name}",
    )


def _list_layers(width: float) -> Iterator[tuple[str, str]]:
    """Yield each Keras layer of an MN with its PyTorch module."""
    yield from _list_convolution("stem", "features.0")
    for index, block in enumerate(BLOCKS, start=1):
        modules = (f"features.{index}.block.{part}" for part in itertools.count())
        if round_channels(block.expanded * width) != round_channels(block.inputs * width):
            yield from _list_convolution(f"block{index}_expand", next(modules))
        yield from _list_convolution(f"block{index}_depthwise", next(modules))
        if block.squeeze_excite:
            module = next(modules)
            for dense in ("fc1", "fc2"):
                yield f"block{index}_squeeze_excite_{dense}", f"{module}.conc_se_layers.0.{dense}"
        yield from _list_convolution(f"block{index}_project", next(modules))
    yield from _list_convolution("last", f"features.{len(BLOCKS) + 1}")
    yield "hidden", "classifier.2"
    yield "classifier", "classifier.5"


def _list_convolution(layer: str, module: str) -> Iterator[tuple[str, str]]:
    yield f"{layer}_conv", f"{module}.0"
    yield f"{layer}_bn", f"{module}.1"
