"""What a network that hears is made of, and how its parts become a Keras model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.layers.log_mel import LogMel

INPUTS = ("log_mel", "waveform")


@dataclass(frozen=True)
class Backbone:
    """The two halves of a tagger and the front end they were made for.

    Both halves create new layers, with new weights, each time they are called. A head applies the very same layers
    to the clip and to each output frame.

    Args:
        front_end: Name in `kerastag.dsp.FRONT_ENDS`.
        frames_per_output: Log-mel frames an output frame.
        build_features: Function of `(log_mel, **settings)` that gives frame features
            `(batch, output_frames, channels)` from log-mel `(batch, frames, mel_bins)`.
        build_head: Function of `(features, num_classes, **settings)` that gives a dict of `clipwise`
            `(batch, num_classes)`, `framewise` `(batch, output_frames, num_classes)` and `embedding`
            `(batch, channels)`, all float32.

    >>> Backbone("panns", 16, lambda log_mel: log_mel, lambda features, num_classes: {}).seconds_per_output
    0.16
    """

    front_end: str
    frames_per_output: int
    build_features: Callable[..., Any]
    build_head: Callable[..., dict[str, Any]]

    @property
    def seconds_per_output(self) -> float:
        """Seconds from one output frame to the next."""
        front_end = FRONT_ENDS[self.front_end]
        return self.frames_per_output * front_end.hop_length / front_end.sample_rate

    def build(
        self,
        num_classes: int,
        *,
        input: str,
        name: str,
        features: dict[str, Any],
        head: dict[str, Any],
    ) -> keras.Model:
        """Log-mel or waveform -> dict of `clipwise`, `framewise` and `embedding`; settings go to either half."""
        check_count("num_classes", num_classes)
        inputs, log_mel = log_mel_input(FRONT_ENDS[self.front_end], input)
        frame_features = self.build_features(log_mel, **features)
        return keras.Model(inputs, self.build_head(frame_features, num_classes, **head), name=name)


def log_mel_input(front_end: FrontEnd, input: str) -> tuple[Any, Any]:
    """`"log_mel"` or `"waveform"` -> the model's input, and the log-mel `(batch, frames, mel_bins)` that it gives."""
    if input not in INPUTS:
        raise ValueError(f"`input` must be one of {', '.join(INPUTS)}, received {input!r}")
    if input == "log_mel":
        inputs = keras.Input((None, front_end.num_mel_bins), name="log_mel")
        return inputs, inputs
    inputs = keras.Input((None,), name="waveform")
    return inputs, LogMel(front_end, name="front_end", dtype="float32")(inputs)


def scaled(channels: int, width: float) -> int:
    """Channels at full width -> channels at `width`, never none."""
    return max(1, round(channels * width))


def check_count(name: str, value: object) -> None:
    """Raise unless `value` is a whole number above zero."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a whole number above zero, received {value!r}")


def check_width(width: object) -> None:
    """Raise unless `width` is a positive number."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 100:
        raise ValueError(f"`width` must be a number above 0 and at most 100, received {width!r}")


def check_rate(name: str, value: object) -> None:
    """Raise unless `value` is a dropout rate: at least 0, below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be at least 0 and below 1, received {value!r}")
