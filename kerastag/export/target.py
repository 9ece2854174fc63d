"""Export targets: how a model is written for one kind of device, read from the TOML files of `export/targets/`."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field

from kerastag._configs import find_config

__all__ = ["Target", "Tolerance", "read_target"]

_CHOICES = {
    "format": ("tflite", "saved_model"),
    "input": ("as_trained", "waveform", "log_mel", "embedding", "waveform_or_embedding"),
    "quantization": ("none", "float16", "int8_dynamic", "int8", "int16x8"),
    "metadata": ("none", "mediapipe"),
    "runtime": ("current", "tflite_runtime"),
    "transform": ("two_step", "fft"),
}
_OLD_KEYS = {"quantisation": "quantization"}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest differences that are allowed between an exported model and Keras, each in [0, 1].

    Args:
        clipwise: Difference of a clipwise probability, for models that take log-mel or embeddings.
        framewise: Difference of a framewise probability, for the same models.
        clipwise_from_waveform: Difference of a clipwise probability where the front end is in the file.
        framewise_from_waveform: Difference of a framewise probability where the front end is in the file.
        embedding: Difference of a value of an embedding, as a fraction of the largest value.
        map_loss: Loss of mAP on the evaluation clips.

    Raises:
        ValueError: A value is outside [0, 1].
    """

    clipwise: float = 1e-5
    framewise: float = 1e-5
    clipwise_from_waveform: float = 5e-5
    framewise_from_waveform: float = 5e-4
    embedding: float = 5e-3
    map_loss: float = 1e-4

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"`tolerance.{name}` must be in [0, 1]; received: {value!r}")

    def get_limit(self, output: str, from_waveform: bool) -> float:
        """Return the largest difference that is allowed for an output of the model."""
        name = "embedding" if output not in ("clipwise", "framewise") else output + "_from_waveform" * from_waveform
        return float(getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Target:
    """Options of an export.

    Args:
        name: Name of the target.
        about: Purpose of the target, in one line.
        format: Format of the file, `"tflite"` or `"saved_model"`.
        input: Input of the exported model: `"waveform"`, `"log_mel"`, `"embedding"`, `"as_trained"` (the input of the
            Keras model) or `"waveform_or_embedding"` (an embedding if the Keras model takes one, otherwise a waveform).
        quantization: `"none"` keeps float32; `"float16"` stores weights in float16; `"int8_dynamic"` stores weights in
            8 bits and quantizes activations at run time; `"int8"` and `"int16x8"` quantize activations too, to 8 or 16
            bits, with ranges from representative recordings.
        keep_float: Regular expressions; the tensors whose names match stay float. The front end always does.
        smallest_weights: Number of weights, at least 0; layers with fewer stay in float16 where others have 8 bits, and
            in float32 where others have 16.
        window_seconds: Length of a clip in seconds; 0 takes the length from the card.
        any_length: Whether the file takes a waveform of any length, instead of one clip.
        outputs: Names of the outputs to keep, of those that the model has.
        metadata: `"mediapipe"` adds the metadata that MediaPipe's `AudioClassifier` needs.
        runtime: `"tflite_runtime"` uses only the operations that tflite-runtime 2.14 supports.
        transform: How a front end in the file computes its spectrum, see `kerastag.layers.LogMel`.
        split: Whether an attention head gets two signatures for streaming: the layers of one segment, and the pooling.
        tolerance: Largest differences to Keras.

    Raises:
        ValueError: A value is not allowed.

    >>> Target(name="mine", quantization="float16").needs_recordings
    False
    """

    name: str
    about: str = ""
    format: str = "tflite"
    input: str = "as_trained"
    quantization: str = "none"
    keep_float: tuple[str, ...] = ()
    smallest_weights: int = 0
    window_seconds: float = 0.0
    any_length: bool = False
    outputs: tuple[str, ...] = ("clipwise", "framewise", "embedding", "segments")
    metadata: str = "none"
    runtime: str = "current"
    transform: str = "two_step"
    split: bool = False
    tolerance: Tolerance = field(default_factory=Tolerance)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}; received: {getattr(self, name)!r}")
        if type(self.smallest_weights) is not int or self.smallest_weights < 0:
            raise ValueError(f"`smallest_weights` must be an integer from 0; received: {self.smallest_weights!r}")
        if isinstance(self.window_seconds, bool) or not isinstance(self.window_seconds, int | float):
            raise ValueError(f"`window_seconds` must be a number of seconds; received: {self.window_seconds!r}")
        if not 0 <= self.window_seconds < float("inf"):
            raise ValueError(f"`window_seconds` must be at least 0; received: {self.window_seconds}")
        for name in ("keep_float", "outputs"):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
                raise ValueError(f"`{name}` must be a list of strings; received: {values!r}")
            object.__setattr__(self, name, tuple(values))
        for pattern in self.keep_float:
            try:
                re.compile(pattern)
            except re.error as error:
                message = f"`keep_float` must hold regular expressions; received: {pattern!r} ({error})"
                raise ValueError(message) from None
        for name in ("split", "any_length"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be true or false; received: {getattr(self, name)!r}")
        if self.any_length and (self.format, self.input, self.quantization) != ("tflite", "waveform", "none"):
            raise ValueError("`any_length` must be false, except for a TFLite file in float32 that takes a waveform")
        if self.split and (self.format != "tflite" or self.needs_recordings):
            raise ValueError(f"`split` must be false with {self.format} and {self.quantization}; received: true")
        if self.format == "saved_model" and self.quantization != "none":
            raise ValueError(f"`quantization` of a SavedModel must be none; received: {self.quantization!r}")

    @property
    def needs_recordings(self) -> bool:
        """Whether the export needs representative recordings."""
        return self.quantization in ("int8", "int16x8")


def read_target(name: str | os.PathLike[str]) -> Target:
    """Read an export target.

    Args:
        name: Name of a target that is part of kerastag, or path of a TOML file, which holds the options that differ
            from the defaults of `Target`; the name of the target is by default that of the file.

    Raises:
        FileNotFoundError: No such target; the message suggests similar names.
        ValueError: The file is not valid TOML, or has an unknown key or a value that is not allowed.

    >>> read_target("float16").quantization
    'float16'
    """
    path = find_config("targets", name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        values = {_OLD_KEYS.get(key, key): value for key, value in values.items()}
        tolerance = values.pop("tolerance", {})
        if not isinstance(tolerance, dict):
            raise ValueError(f"`tolerance` must be a table; received: {tolerance!r}")
        _check_keys(Tolerance, tolerance, "tolerance.")
        _check_keys(Target, values, "")
        return Target(**{"name": path.stem, **values, "tolerance": Tolerance(**tolerance)})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_keys(config_class: type, values: Iterable[str], prefix: str) -> None:
    names = {each.name for each in dataclasses.fields(config_class)}
    if unknown := sorted(set(values) - names):
        raise ValueError(f"keys must be among {', '.join(sorted(names))}; received: `{prefix}{unknown[0]}`")
