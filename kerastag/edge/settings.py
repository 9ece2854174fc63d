"""What `kerastag stream` does: flags and a TOML of the same names -> checked settings."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerastag.bundled import BUNDLED_MODEL

__all__ = ["StreamSettings"]


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream; each is a flag of `kerastag stream` and a key of its TOML.

    Args:
        model: A `.tflite` file: a tagger, or an embedder with a head; or `BUNDLED_MODEL`, the model in the package.
        head: A `.tflite` file from embeddings to tags.
        source: As of `kerastag.edge.sources.open_source`.
        output: As of `kerastag.edge.sinks.open_outputs`.
        mode, hop_seconds, threads: As of `StreamingTagger`.
        realtime: A recording comes at its own pace; standard input is live.
        encoding: Of raw standard input.
        rate: Hz, of raw standard input, or what a microphone is asked for; None: 16,000, or the model's.
        channels: Of raw standard input or a microphone.
        top: Tags of a result at most, 1 or more.
        classes: Names or MIDs of the classes to listen for; none given: all.
        threshold: Probability at which an event begins, for every class; None: the model's own, class by class.
        off_threshold: Probability below which an event ends; None: half of the other. Never above it.
        thresholds: Class -> its own threshold.
        smoothing_seconds, min_seconds, max_gap_seconds, refractory_seconds: As of `EventRules`.
        stats: Seconds between two lines of statistics; 0: one at the end; None: none.
        queue_seconds: Audio that may wait before the oldest is dropped, above 0.

    Raises:
        ValueError: A value is outside its range.
    """

    model: str = BUNDLED_MODEL
    head: str | None = None
    source: str = "mic"
    output: tuple[str | Mapping[str, Any], ...] = ("terminal",)
    mode: str = "auto"
    hop_seconds: float | None = None
    threads: int = 1
    realtime: bool = False
    encoding: str = "S16_LE"
    rate: int | None = None
    channels: int = 1
    top: int = 5
    classes: tuple[str, ...] = ()
    threshold: float | None = None
    off_threshold: float | None = None
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    smoothing_seconds: float = 0.0
    min_seconds: float = 0.0
    max_gap_seconds: float = 0.0
    refractory_seconds: float = 0.0
    stats: float | None = None
    queue_seconds: float = 10.0

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name), hints[field.name]))
        if not self.model:
            raise ValueError(f"`model` must name a .tflite file or be {BUNDLED_MODEL}, received none")
        if self.top < 1:
            raise ValueError(f"`top` must be at least 1, received {self.top}")
        probabilities = {"threshold": self.threshold, "off_threshold": self.off_threshold}
        for name, value in [*probabilities.items(), *((f"thresholds.{k}", v) for k, v in self.thresholds.items())]:
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], received {value:g}")
        if self.stats is not None and not self.stats >= 0:
            raise ValueError(f"`stats` must be at least 0 seconds, received {self.stats:g}")
        if not self.output:
            raise ValueError("`output` must name at least one output, received none")

    @classmethod
    def read(cls, path: str | None, flags: Mapping[str, Any]) -> StreamSettings:
        """A TOML and flags -> settings; flags win.

        Args:
            path: Of the TOML; None for none.
            flags: Those that were given.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no TOML, has an unknown key, or a value outside its range.
        """
        values: dict[str, Any] = {}
        if path is not None:
            values = _parsed(path)
            known = [field.name for field in dataclasses.fields(cls)]
            if unknown := sorted(values.keys() - set(known)):
                alike = difflib.get_close_matches(unknown[0], known, 1)
                hint = f"; did you mean `{alike[0]}`?" if alike else f", received none of {', '.join(known)}"
                raise ValueError(f"{path}: `{unknown[0]}` is no setting{hint}")
        try:
            return cls(**{**values, **flags})
        except ValueError as error:
            raise ValueError(f"{path}: {error}" if path and not flags else str(error)) from None


def _parsed(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such configuration")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no TOML: {error}") from None


def _checked(name: str, value: Any, hint: Any) -> Any:
    """A value of the type that the setting has: whole numbers pass for floats, one text for several."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = kinds[0]
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = tuple(value) if isinstance(value, list | tuple) else (value,)
        element = typing.get_args(kind)[0]
        texts = (str, Mapping) if isinstance(element, types.UnionType) else str
        if all(isinstance(item, texts) for item in items):
            return items
    elif origin is not None:  # a table
        if isinstance(value, Mapping) and all(_is(number, float) for number in value.values()):
            return dict(value)
    elif _is(value, kind):
        return float(value) if kind is float else value
    several = "a list of text" if origin is tuple else "a table of numbers"
    wanted = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}.get(kind, several)
    raise ValueError(f"`{name}` must be {wanted}, received {value!r}")


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)
