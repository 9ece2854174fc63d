"""The configuration of `kerastag stream`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from kerastag._command import mask_urls
from kerastag.bundled import BUNDLED_MODEL

__all__ = ["StreamConfig", "load_stream_config"]

_HOUR, _DAY = 3_600.0, 86_400.0
# Smallest and largest value of each number. Larger ones would take memory that no device has.
_LIMITS: dict[str, tuple[float, float]] = {
    "threshold": (0.0, 1.0),
    "off_threshold": (0.0, 1.0),
    "top": (1, 10_000),
    "smoothing_seconds": (0.0, 60.0),
    "min_seconds": (0.0, _HOUR),
    "max_gap_seconds": (0.0, _DAY),
    "refractory_seconds": (0.0, _DAY),
    "hop_seconds": (0.001, _HOUR),
    "threads": (1, 256),
    "rate": (1_000, 1_000_000),
    "channels": (1, 64),
    "queue_seconds": (0.1, _HOUR),
    "timeout_seconds": (0.1, _HOUR),
    "silence_hours": (0.0, 10_000.0),
    "stats": (0.0, 1e9),
}


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """Configuration of a stream; each field is a key of its TOML file and, except `thresholds`, a flag.

    Args:
        model: Path of a .tflite file, a tagger or, with a head, an embedder; or esc10, the bundled tagger.
        head: Path of a .tflite file from embeddings to tags.
        watch_head: Whether to use another head, without a restart, as soon as the file of the head changes, such as by
            kerastag review.
        source: Source of the audio: mic, mic:NAME, mic:NUMBER, the path of a recording, a URL (rtsp://...), or - for
            raw PCM or WAV on standard input.
        output: Outputs, separated by commas or in repeated flags: json:FILE or csv:FILE (- is standard output),
            terminal, mqtt://HOST/TOPIC, mqtts://HOST/TOPIC or record:FOLDER; in a TOML file a list of these, or tables
            with `to`, `report` (all, results or events) and the options of the output.
        classes: Names or identifiers of the classes to detect; none selects all.
        top: Maximum number of tags of a result, at least 1.
        threshold: Probability in [0, 1] at which an event begins; by default the thresholds of the model.
        off_threshold: Probability in [0, 1] below which an event ends, at most the threshold; by default the share of
            the threshold that the model has, or half of it.
        thresholds: Thresholds of single classes, by name or identifier.
        smoothing_seconds: Length of the median filter over time, seconds, 0 to 60; by default that of the model, or 0.
        min_seconds: Duration of the shortest event, seconds, at least 0; by default that of the model, or 0.
        max_gap_seconds: Duration of the longest pause within an event, seconds, at least 0; by default that of the
            model, or 0.
        refractory_seconds: Minimum time between two events of a class, seconds, at least 0; by default that of the
            model, or 0.
        mode: Streaming mode; auto is incremental with a head, and windowed without.
        hop_seconds: Time from one result to the next, seconds, above 0; by default 1 s (windowed) or the length of a
            segment (incremental).
        threads: Number of threads of the interpreter, at least 1.
        realtime: Whether a recording is played at its own speed; standard input then counts as live, and audio that
            cannot be processed in time is lost.
        encoding: Encoding of raw PCM, named as by arecord -f.
        rate: Sample rate of raw PCM or requested from a microphone, Hz; by default 16000 or the rate of the model.
        channels: Number of channels of raw PCM or requested from a microphone, at least 1.
        channel: What to tag of several channels: their mean, left, right, loudest, or the number of one, from 1.
        queue_seconds: Duration of the audio that can wait before the oldest is dropped, seconds, at least 0.1.
        timeout_seconds: Time without audio after which the source is lost, seconds, at least 0.1: its events end,
            and the outputs get its state.
        silence_hours: Duration of digital silence after which the source is reported as silent, hours; 0 disables it.
        mqtt_ca_file: Path of the certificates of the authorities to trust, for mqtts outputs; by default those of the
            system.
        mqtt_client_certificate: Path of the certificate by which mqtts outputs identify themselves.
        mqtt_client_key: Path of the key of this certificate, if it is another file.
        mqtt_server_name: Name that the certificate of the broker must have; by default that in the URL.
        stats: Interval at which speed, losses, latency and memory are printed, seconds; 0, or the flag
            without a value, prints them only at the end.

    >>> StreamConfig(source="street.flac", output="json:-", top=3).output
    ('json:-',)
    """

    model: str = BUNDLED_MODEL
    head: str | None = None
    watch_head: bool = False
    source: str = "mic"
    output: tuple[str | Mapping[str, Any], ...] = ("terminal",)
    classes: tuple[str, ...] = ()
    top: int = 5
    threshold: float | None = None
    off_threshold: float | None = None
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    smoothing_seconds: float | None = None
    min_seconds: float | None = None
    max_gap_seconds: float | None = None
    refractory_seconds: float | None = None
    mode: Literal["auto", "windowed", "incremental"] = "auto"
    hop_seconds: float | None = None
    threads: int = 1
    realtime: bool = False
    encoding: str = "S16_LE"
    rate: int | None = None
    channels: int = 1
    channel: str = "mean"
    queue_seconds: float = 10.0
    timeout_seconds: float = 10.0
    silence_hours: float = 1.0
    mqtt_ca_file: str | None = None
    mqtt_client_certificate: str | None = None
    mqtt_client_key: str | None = None
    mqtt_server_name: str | None = None
    stats: float | None = None

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _convert(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
        if not self.model:
            raise ValueError(f"`model` must be the path of a .tflite file or {BUNDLED_MODEL}; received: {self.model!r}")
        # Imported here: `kerastag --help` reads this class without NumPy.
        from kerastag.audio.channels import parse_channel

        parse_channel(self.channel)
        if self.watch_head and self.head is None:
            raise ValueError("`watch_head` must be used with `head`, whose file it watches; received: no head")
        if not self.output:
            raise ValueError("`output` must have at least one output; received: none")
        for name, (low, high) in _LIMITS.items():
            _check_range(name, getattr(self, name), low, high)
        for name, probability in self.thresholds.items():
            _check_range(f"thresholds.{name}", probability, 0.0, 1.0)
        targets = (output if isinstance(output, str) else str(output.get("to", "")) for output in self.output)
        if self.mqtt_options and not any(target.startswith("mqtts:") for target in targets):
            raise ValueError(f"`mqtt_{next(iter(self.mqtt_options))}` must be used with an output mqtts://HOST/TOPIC")

    @property
    def mqtt_options(self) -> dict[str, str]:
        """The options of every `mqtts` output that does not set them itself."""
        prefix = "mqtt_"
        fields = (field.name for field in dataclasses.fields(self) if field.name.startswith(prefix))
        values = {name.removeprefix(prefix): getattr(self, name) for name in fields}
        return {name: value for name, value in values.items() if value is not None}


def load_stream_config(path: str | None, overrides: Mapping[str, Any]) -> StreamConfig:
    """Load a configuration from a TOML file.

    Args:
        path: Path of the TOML file; None if there is none.
        overrides: Values that replace those of the file, by field.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not valid TOML, or has an unknown key or a value that is out of range.
    """
    values = {} if path is None else _read_toml(path)
    try:
        return StreamConfig(**{**values, **overrides})
    except ValueError as error:
        raise ValueError(mask_urls(f"{path}: {error}" if path and not overrides else str(error))) from None


def _read_toml(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such configuration file")
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # Also of numbers with thousands of digits, and of deep nesting.
        raise ValueError(f"{path}: not a TOML file: {error}") from None
    names = [field.name for field in dataclasses.fields(StreamConfig)]
    for key in sorted(values.keys() - set(names)):
        matches = difflib.get_close_matches(key, names, 1)
        hint = f"did you mean `{matches[0]}`?" if matches else f"must be one of {', '.join(names)}"
        raise ValueError(f"{path}: `{key}` is not a known key; {hint}")
    return values


def _convert(name: str, value: Any, hint: Any) -> Any:
    """Return a value with the type of its field: integers become floats, and one string becomes a tuple of strings."""
    kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint
    if value is None and kind is not hint:
        return None
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = tuple(value) if isinstance(value, list | tuple) else (value,)
        item_types = (str, Mapping) if name == "output" else str
        if all(isinstance(item, item_types) for item in items):
            return items
        expected = "a list of strings"
    elif origin is Literal:
        if value in typing.get_args(kind):
            return value
        expected = f"one of {', '.join(typing.get_args(kind))}"
    elif origin is not None:
        if isinstance(value, Mapping) and all(_has_type(number, float) for number in value.values()):
            return {key: _convert_to_float(number) for key, number in value.items()}
        expected = "a table of numbers"
    else:
        if _has_type(value, kind):
            return _convert_to_float(value) if kind is float else value
        expected = {float: "a number", int: "an integer", str: "a string", bool: "true or false"}[kind]
    raise ValueError(f"`{name}` must be {expected}; received: {_format_value(value)}")


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ValueError(f"`{name}` must be in [{low:.10g}, {high:.10g}]; received: {_format_value(value)}")


def _convert_to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _format_value(value: Any) -> str:
    """Format a value, which may be huge or have a password, for a message."""
    try:
        text = mask_urls(f"{value:g}" if isinstance(value, float) else repr(value))
    except ValueError:  # Python does not convert integers with thousands of digits.
        return "a number with thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _has_type(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)
