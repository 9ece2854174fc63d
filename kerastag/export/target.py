"""What an export target is: one TOML of `export/targets/`, which holds only what differs from the defaults."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerastag._configs import config_path

__all__ = ["FORMATS", "INPUTS", "QUANTIZATIONS", "Target", "Tolerance", "read_target"]

FORMATS = ("tflite", "saved_model")
INPUTS = ("as_trained", "waveform", "log_mel", "embedding", "waveform_or_embedding")
QUANTIZATIONS = ("none", "float16", "int8_dynamic", "int8", "int16x8")
METADATA = ("none", "mediapipe")
RUNTIMES = ("current", "tflite_runtime")
TRANSFORMS = ("two_step", "fft")
_CHOICES = {
    "format": FORMATS,
    "input": INPUTS,
    "quantization": QUANTIZATIONS,
    "metadata": METADATA,
    "runtime": RUNTIMES,
    "transform": TRANSFORMS,
}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an exported model may be from Keras.

    Args:
        clipwise: largest difference of a clip's probability, in [0, 1], from log-mel or embeddings.
        framewise: the same of an output frame's probability.
        clipwise_from_waveform: largest difference of a clip's probability when the front end is in the file.
        framewise_from_waveform: the same of an output frame's.
        embedding: largest difference of an embedding's value, as a share of the largest value.
        map_loss: mAP that may be lost on the evaluation clips, in [0, 1].

    Raises:
        ValueError: a value is outside [0, 1].
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
                raise ValueError(f"`tolerance.{name}` must be in [0, 1], received {value!r}")

    def of(self, output: str, from_waveform: bool) -> float:
        """The name of an output -> the largest difference that it may have."""
        if output not in ("clipwise", "framewise"):
            return self.embedding
        return float(getattr(self, f"{output}_from_waveform" if from_waveform else output))


@dataclass(frozen=True, kw_only=True)
class Target:
    """How a model is written for one kind of device or program.

    Args:
        name: what the target is called.
        about: what it is for, one line.
        format: `"tflite"` or `"saved_model"`.
        input: what the file takes: `"waveform"`, `"log_mel"`, `"embedding"`, `"as_trained"`, what the model takes, or
            `"waveform_or_embedding"`, a waveform where the model hears.
        quantization: `"none"` keeps float32; `"float16"` stores weights so; `"int8_dynamic"` stores 8-bit weights and
            quantizes activations as they come; `"int8"` quantizes both by representative recordings; `"int16x8"` does
            so with 16-bit activations.
        keep_float: regular expressions over tensor names: what they match stays float. The front end always does.
        smallest_weights: layers with fewer weights stay float: float16 where others have 8 bits, else float32. At
            least 0.
        window_seconds: length of a clip, 0 for the card's.
        outputs: which outputs to keep, of those that the model has.
        metadata: `"mediapipe"` adds what MediaPipe's `AudioClassifier` asks for.
        runtime: `"tflite_runtime"` keeps to operations that tflite-runtime 2.14 knows.
        transform: how a front end in the file computes its spectrum, see `LogMel`.
        split: write an attention head in two signatures, for streams: what a segment goes through alone, and what hears
            the segments together.
        tolerance: how far the file may be from Keras.

    Raises:
        ValueError: a value is none of the allowed.
    """

    name: str
    about: str = ""
    format: str = "tflite"
    input: str = "as_trained"
    quantization: str = "none"
    keep_float: tuple[str, ...] = ()
    smallest_weights: int = 0
    window_seconds: float = 0.0
    outputs: tuple[str, ...] = ("clipwise", "framewise", "embedding", "segments")
    metadata: str = "none"
    runtime: str = "current"
    transform: str = "two_step"
    split: bool = False
    tolerance: Tolerance = field(default_factory=Tolerance)

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, received {getattr(self, name)!r}")
        if type(self.smallest_weights) is not int or self.smallest_weights < 0:
            raise ValueError(f"`smallest_weights` must be a whole number from 0, received {self.smallest_weights!r}")
        if isinstance(self.window_seconds, bool) or not isinstance(self.window_seconds, int | float):
            raise ValueError(f"`window_seconds` must be a number of seconds, received {self.window_seconds!r}")
        if not 0 <= self.window_seconds < float("inf"):
            raise ValueError(f"`window_seconds` must be at least 0, received {self.window_seconds}")
        for name in ("keep_float", "outputs"):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
                raise ValueError(f"`{name}` must be a list of texts, received {values!r}")
            object.__setattr__(self, name, tuple(values))
        for pattern in self.keep_float:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"`keep_float` must hold regular expressions, received {pattern!r}: {error}") from None
        if not isinstance(self.split, bool):
            raise ValueError(f"`split` must be true or false, received {self.split!r}")
        if self.split and (self.format != "tflite" or self.needs_recordings):
            raise ValueError(f"`split` must be false with {self.format} and {self.quantization}, received true")
        if self.format == "saved_model" and self.quantization != "none":
            raise ValueError(f"`quantization` of a SavedModel must be none, received {self.quantization!r}")

    @property
    def needs_recordings(self) -> bool:
        """Whether the export asks for representative recordings."""
        return self.quantization in ("int8", "int16x8")


def read_target(name: str | os.PathLike[str]) -> Target:
    """The name of a target that comes with kerastag, or the path of a TOML -> the target.

    Raises:
        FileNotFoundError: there is none; the message offers names that look alike.
        ValueError: the file is no TOML, or has an unknown key or a value that is not allowed.

    >>> read_target("float16").quantization
    'float16'
    """
    path = config_path("targets", name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        tolerance = _fields(Tolerance, values.pop("tolerance", {}), "tolerance.")
        return Target(**{"name": path.stem, **_fields(Target, values, ""), "tolerance": Tolerance(**tolerance)})
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _fields(kind: type, values: Any, prefix: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"`{prefix.rstrip('.')}` must be a table, received {values!r}")
    known = {each.name for each in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"`{prefix}{unknown[0]}` is no setting of a target; there are {', '.join(sorted(known))}")
    return values
