"""The parts of a backbone, and how they become a Keras model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.layers._arguments import check_choice, check_integer
from kerastag.layers.log_mel import LogMel

INPUTS = ("log_mel", "waveform")
FEATURES = "features"
"""Name of the layer of a backbone whose output its head classifies."""


@dataclass(frozen=True)
class Backbone:
    """The two halves of a tagger, and the front end that they were designed for.

    Both halves create new layers, with new weights, whenever they are called. A head applies the same layers to the
    clip and to every output frame.

    Args:
        front_end: Name of the front end in `kerastag.dsp.FRONT_ENDS`.
        frames_per_output: Number of log-mel frames per output frame, at least 1.
        build_features: Function of `(log_mel, **arguments)` that returns `(batch, output_frames, channels)`.
        build_head: Function of `(features, num_classes, **arguments)` that returns the dict of outputs.

    >>> Backbone("panns", 16, lambda log_mel: log_mel, lambda features, num_classes: {}).seconds_per_output
    0.16
    """

    front_end: str
    frames_per_output: int
    build_features: Callable[..., Any]
    build_head: Callable[..., dict[str, Any]]

    @property
    def seconds_per_output(self) -> float:
        """Hop of the output frames, seconds."""
        front_end = FRONT_ENDS[self.front_end]
        return self.frames_per_output * front_end.hop_length / front_end.sample_rate

    def build(self, num_classes: int, input: str, name: str, head: dict[str, Any], **features: Any) -> keras.Model:
        """Build the model, given the arguments of `build_head` and of `build_features`."""
        check_integer("num_classes", num_classes)
        inputs, log_mel = build_input(FRONT_ENDS[self.front_end], input)
        x = self.build_features(log_mel, **features)
        x = keras.layers.Activation("linear", dtype=x.dtype, name=FEATURES)(x)  # a name for them, which GL-AT needs
        return keras.Model(inputs, self.build_head(x, num_classes, **head), name=name)


def build_input(front_end: FrontEnd, input: str) -> tuple[Any, Any]:
    """Return the input of a model, `log_mel` or `waveform`, and its log-mel, `(batch, frames, mel_bins)`."""
    check_choice("input", input, INPUTS)
    if input == "log_mel":
        inputs = keras.Input((None, front_end.num_mel_bins), name="log_mel")
        return inputs, inputs
    inputs = keras.Input((None,), name="waveform")
    return inputs, LogMel(front_end, name="front_end", dtype="float32")(inputs)


def scale_channels(channels: int, width: float) -> int:
    """Return the number of channels at `width`, at least 1."""
    return max(1, round(channels * width))


def check_width(width: Any) -> None:
    """Raise a ValueError unless `width` is a number in (0, 100]."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 100:
        raise ValueError(f"`width` must be a number in (0, 100]; received: {width!r}")
