"""PANNs' CNN10 and ResNet38 checkpoints."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.dsp import FRONT_ENDS
from kerastag.importers import _transfer
from kerastag.importers.torch_file import TorchFile
from kerastag.importers.torch_pickle import Tensor
from kerastag.labels import LabelSet
from kerastag.models import cnn10, resnet38
from kerastag.models.backbone import Backbone

WINDOW_SECONDS = 10.0
# PANNs build the front end as a network, so a checkpoint holds it too.
STFT_BUFFERS = ("spectrogram_extractor.stft.conv_real.weight", "spectrogram_extractor.stft.conv_imag.weight")
MEL_BUFFER = "logmel_extractor.melW"
_MEL_TOLERANCE = 1e-5


@dataclass(frozen=True)
class _System:
    title: str
    build: Callable[..., keras.Model]
    backbone: Backbone
    layer_names: Callable[[], Iterator[tuple[str, str]]]


def import_panns(file: str | Path, output: str | Path, *, labels: LabelSet | None = None) -> Path:
    """PANNs' PyTorch checkpoint -> a `.keras` file from waveform to tags, with its card inside.

    CNN10 and ResNet38, of any width and number of classes: all are read off names and shapes. Every tensor of the
    file finds its place, by name and shape, or nothing is written; the mel filters in the file are compared with
    ours, so that a network trained at another rate is not taken for one at 32 kHz.

    Args:
        file: Such as `Cnn10_mAP=0.380.pth` or `ResNet38_mAP=0.434.pth`.
        output: Path that ends in `.keras`.
        labels: The classes; AudioSet's where there are 527 of them and none are given.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: There is no such file, or no folder for the output.
        ValueError: The file is damaged, holds more than tensors, or another architecture; the labels do not fit.

    >>> import_panns("Cnn10_mAP=0.380.pth", "cnn10.keras")  # doctest: +SKIP
    PosixPath('cnn10.keras')
    """
    _transfer.check_output(output)
    with TorchFile(file) as checkpoint:
        tensors = checkpoint.tensors()
        system = SYSTEMS["resnet38" if any(name.startswith("resnet.") for name in tensors) else "cnn10"]
        num_classes, width = _sizes(checkpoint.path, system.title, tensors)
        _check_front_end(checkpoint, system, tensors)
        classes = _transfer.class_labels(num_classes, labels)
        model = system.build(num_classes, width=width, input="waveform")
        places = _transfer.slots(model, system.layer_names())
        _transfer.fill(checkpoint, f"PANNs' {system.title}", _network(tensors), places)
    return _transfer.save(
        model,
        output,
        labels=classes,
        front_end=system.backbone.front_end,
        window_seconds=WINDOW_SECONDS,
        seconds_per_frame=system.backbone.seconds_per_output,
        origin=f"PANNs {system.title}, {Path(file).name}",
    )


def cnn10_layer_names() -> Iterator[tuple[str, str]]:
    """Keras layer -> PyTorch module of CNN10."""
    yield "bn0", "bn0"
    for block in range(1, len(cnn10.CHANNELS) + 1):
        yield from _conv_block(f"conv_block{block}")
    yield from _classifier()


def resnet38_layer_names() -> Iterator[tuple[str, str]]:
    """Keras layer -> PyTorch module of ResNet38."""
    yield "bn0", "bn0"
    yield from _conv_block("conv_block1")
    for stage, (blocks, _, stride) in enumerate(resnet38.STAGES, start=1):
        for block in range(blocks):
            ours, theirs = f"layer{stage}_{block}", f"resnet.layer{stage}.{block}"
            for part in ("conv1", "bn1", "conv2", "bn2"):
                yield f"{ours}_{part}", f"{theirs}.{part}"
            if stride == 2 and block == 0:
                # downsample.0 is the pooling.
                yield f"{ours}_shortcut_conv", f"{theirs}.downsample.1"
                yield f"{ours}_shortcut_bn", f"{theirs}.downsample.2"
    yield from _conv_block("conv_block_after1")
    yield from _classifier()


def _conv_block(name: str) -> Iterator[tuple[str, str]]:
    for part in ("conv1", "bn1", "conv2", "bn2"):
        yield f"{name}_{part}", f"{name}.{part}"


def _classifier() -> Iterator[tuple[str, str]]:
    yield "fc1", "fc1"
    yield "fc_audioset", "fc_audioset"


def _network(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the front end's buffers, checked apart, and BatchNorm's counters, which nothing reads."""
    buffers = {*STFT_BUFFERS, MEL_BUFFER}
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name not in buffers and not name.endswith(".num_batches_tracked")
    }


def _sizes(path: Path, title: str, tensors: Mapping[str, Tensor]) -> tuple[int, float]:
    """Number of classes, off the classifier's shape, and width, off the first convolution's."""
    shapes = [tensors[name].shape for name in ("fc_audioset.weight", "conv_block1.conv1.weight") if name in tensors]
    if [len(shape) for shape in shapes] != [2, 4] or not shapes[0][0] or not shapes[1][0]:
        raise ValueError(f"{path}: is no checkpoint of PANNs' {title} (no `fc_audioset` and `conv_block1` in it)")
    return shapes[0][0], shapes[1][0] / cnn10.CHANNELS[0]


def _check_front_end(checkpoint: TorchFile, system: _System, tensors: Mapping[str, Tensor]) -> None:
    front_end = FRONT_ENDS[system.backbone.front_end]
    bins = front_end.fft_length // 2 + 1
    wanted: dict[str, Any] = dict.fromkeys(STFT_BUFFERS, (bins, 1, front_end.fft_length))
    wanted[MEL_BUFFER] = (bins, front_end.num_mel_bins)
    found = {name: tensors[name].shape for name in wanted if name in tensors}
    _transfer.check_names(checkpoint.path, f"PANNs' {system.title} at 32 kHz", wanted, found)
    theirs = checkpoint.read(tensors[MEL_BUFFER])
    if not np.allclose(theirs, front_end.mel_matrix, rtol=0, atol=_MEL_TOLERANCE):
        raise ValueError(f"{checkpoint.path}: `{MEL_BUFFER}` holds other mel filters than PANNs' at 32 kHz")


SYSTEMS = {
    "cnn10": _System("CNN10", cnn10.cnn10, cnn10.BACKBONE, cnn10_layer_names),
    "resnet38": _System("ResNet38", resnet38.resnet38, resnet38.BACKBONE, resnet38_layer_names),
}
