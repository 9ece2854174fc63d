"""Importer of PANNs' CNN10 and ResNet38 checkpoints."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from kerastag.dsp import FRONT_ENDS
from kerastag.importers import _transfer
from kerastag.importers.torch_file import TorchFile
from kerastag.importers.torch_pickle import Tensor
from kerastag.labels import LabelSet
from kerastag.models.backbones import cnn10, resnet38
from kerastag.models.backbones.backbone import Backbone

__all__ = ["import_panns"]

# PANNs compute log-mel with layers of the network, so that a checkpoint contains these too.
_STFT_BUFFERS = ("spectrogram_extractor.stft.conv_real.weight", "spectrogram_extractor.stft.conv_imag.weight")
_MEL_BUFFER = "logmel_extractor.melW"


class _System(NamedTuple):
    title: str
    num_weights: int  # at width 1
    build: Callable[..., keras.Model]
    backbone: Backbone
    list_layers: Callable[[], Iterator[tuple[str, str]]]


def import_panns(file: str | Path, output: str | Path, *, labels: LabelSet | None = None) -> Path:
    """Convert a PyTorch checkpoint of PANNs to a `.keras` file that takes waveforms and contains its card.

    The checkpoint may be CNN10 or ResNet38, of any width and number of classes, which follow from its names and shapes.
    Nothing is written unless every tensor matches a weight by name and shape. The mel filters in the checkpoint must be
    those of 32 kHz, so that a network trained at another sample rate is rejected.

    Args:
        file: Path of the checkpoint, such as `Cnn10_mAP=0.380.pth` or `ResNet38_mAP=0.434.pth`.
        output: Path of the model, which ends in `.keras`; it is returned.
        labels: Classes of the checkpoint; None for AudioSet's 527.

    Raises:
        FileNotFoundError: The checkpoint or the folder of the output does not exist.
        ValueError: The checkpoint is damaged, holds other things than tensors, or is of another architecture; or the
            labels do not fit.

    >>> from kerastag.importers import import_panns
    >>> import_panns("Cnn10_mAP=0.380.pth", "cnn10.keras")  # doctest: +SKIP
    PosixPath('cnn10.keras')
    """
    _transfer.check_output_path(output)
    with TorchFile(file) as checkpoint:
        tensors = checkpoint.list_tensors()
        system = _RESNET38 if any(name.startswith("resnet.") for name in tensors) else _CNN10
        modules = {"fc_audioset": "fc_audioset.weight", "conv_block1": "conv_block1.conv1.weight"}
        weights = {module: tensors.get(name) for module, name in modules.items()}
        num_classes, channels = _transfer.count_outputs(checkpoint.path, f"PANNs' {system.title}", weights)
        _check_front_end(checkpoint, system, tensors)
        labels = _transfer.resolve_labels(num_classes, labels)
        width = channels / cnn10.CHANNELS[0]
        _transfer.check_size(checkpoint.path, f"PANNs' {system.title}", width, system.num_weights)
        model = system.build(num_classes, width=width, input="waveform")
        network = {name: tensor for name, tensor in tensors.items() if name not in (*_STFT_BUFFERS, _MEL_BUFFER)}
        _transfer.fill_weights(checkpoint, f"PANNs' {system.title}", network, model, system.list_layers())
    return _transfer.save_model(
        model,
        output,
        labels=labels,
        front_end=system.backbone.front_end,
        seconds_per_frame=system.backbone.seconds_per_output,
        origin=f"PANNs {system.title}, {Path(file).name}",
    )


def _list_cnn10_layers() -> Iterator[tuple[str, str]]:
    """Yield each Keras layer of CNN10 with its PyTorch module."""
    yield from (("bn0", "bn0"), ("fc1", "fc1"), ("fc_audioset", "fc_audioset"))
    for block in range(1, len(cnn10.CHANNELS) + 1):
        yield from _list_block(f"conv_block{block}", f"conv_block{block}")


def _list_resnet38_layers() -> Iterator[tuple[str, str]]:
    """Yield each Keras layer of ResNet38 with its PyTorch module."""
    yield from (("bn0", "bn0"), ("fc1", "fc1"), ("fc_audioset", "fc_audioset"))
    yield from _list_block("conv_block1", "conv_block1")
    yield from _list_block("conv_block_after1", "conv_block_after1")
    for stage, (blocks, _, stride) in enumerate(resnet38.STAGES, start=1):
        for block in range(blocks):
            layer, module = f"layer{stage}_{block}", f"resnet.layer{stage}.{block}"
            yield from _list_block(layer, module)
            if stride == 2 and block == 0:
                # `downsample.0` is a pooling without weights.
                yield f"{layer}_shortcut_conv", f"{module}.downsample.1"
                yield f"{layer}_shortcut_bn", f"{module}.downsample.2"


def _list_block(layer: str, module: str) -> Iterator[tuple[str, str]]:
    return ((f"{layer}_{part}", f"{module}.{part}") for part in ("conv1", "bn1", "conv2", "bn2"))


def _check_front_end(checkpoint: TorchFile, system: _System, tensors: Mapping[str, Tensor]) -> None:
    front_end = FRONT_ENDS[system.backbone.front_end]
    num_bins = front_end.fft_length // 2 + 1
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(_STFT_BUFFERS, (num_bins, 1, front_end.fft_length))
    expected[_MEL_BUFFER] = (num_bins, front_end.num_mel_bins)
    received = {name: tensors[name].shape for name in expected if name in tensors}
    _transfer.check_tensors(checkpoint.path, f"PANNs' {system.title} at 32 kHz", expected, received)
    mel_matrix = checkpoint.read(tensors[_MEL_BUFFER])
    if not np.allclose(mel_matrix, front_end.mel_matrix, rtol=0, atol=1e-5):
        filters = "the mel filters of PANNs at 32 kHz; received: other filters"
        raise ValueError(f"{checkpoint.path}: `{_MEL_BUFFER}` must be {filters}")


_CNN10 = _System("CNN10", 5_200_000, cnn10.cnn10, cnn10.BACKBONE, _list_cnn10_layers)
_RESNET38 = _System("ResNet38", 73_800_000, resnet38.resnet38, resnet38.BACKBONE, _list_resnet38_layers)
