"""Several outputs of a stream at once, opened from a configuration."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from kerastag.edge.sinks.sink import EventReport, ResultReport, Sink, SourceReport

__all__ = ["SinkContext", "SinkGroup", "open_sinks"]

_REPORTS = ("all", "results", "events")
_MAX_NUMBER = 2**63
_RECOVERY_WRITES = 10  # Number of successful writes in a row after which a sink counts as working again.
_SINK_CLASSES = {
    "json": ("text", "JsonSink"),
    "csv": ("text", "CsvSink"),
    "terminal": ("terminal", "TerminalSink"),
    "mqtt": ("mqtt", "MqttSink"),
    "mqtts": ("mqtt", "MqttSink"),
    "record": ("recorder", "RecorderSink"),
}
_OPTION_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a string"),
    "bool": ((bool,), "true or false"),
    "int": ((int,), "an integer"),
    "float": ((int, float), "a number"),
}


@dataclasses.dataclass(frozen=True)
class SinkContext:
    """What outputs need to know about the stream.

    Args:
        log: Function that takes one line of text for the user.
        classes: Names of the selected classes; empty if all classes are selected.
        model: Name of the model.
        delay_seconds: Maximum time from the onset of an event to its report, seconds.
        is_live: Whether the source is live, and so not listening before its first audio.
        mqtt_options: Options of every `mqtts` output that does not set them itself.
    """

    log: Callable[[str], None] = print
    classes: tuple[str, ...] = ()
    model: str = ""
    delay_seconds: float = 15.0
    is_live: bool = False
    mqtt_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class SinkGroup:
    """A group of sinks that is used like one.

    A sink that fails, with an exception of any type, is reported once, and stops neither the others nor the stream.
    Only `BrokenPipeError` is raised: it means that the reader of standard output is gone.
    """

    def __init__(self, log: Callable[[str], None] = print) -> None:
        self._log = log
        self._sinks: list[tuple[Sink, str]] = []
        self._successes: dict[int, int] = {}  # Number of successful writes in a row, of each sink that has failed.

    def add(self, sink: Sink, report: str = "all") -> None:
        """Add a sink that gets `"results"`, `"events"`, or `"all"`; each gets changes of the state of the source."""
        self._sinks.append((sink, report))

    @property
    def needs_audio(self) -> bool:
        """Whether any sink takes audio."""
        return any(sink.needs_audio for sink, _ in self._sinks)

    def write_result(self, report: ResultReport) -> None:
        for sink, selected in self._sinks:
            if selected != "events":
                self._call(sink, sink.write_result, report)

    def write_event(self, report: EventReport) -> None:
        for sink, selected in self._sinks:
            if selected != "results":
                self._call(sink, sink.write_event, report)

    def write_source(self, report: SourceReport) -> None:
        for sink, _ in self._sinks:
            self._call(sink, sink.write_source, report)

    def write_audio(self, samples: np.ndarray, sample_rate: int, end_seconds: float) -> None:
        for sink, _ in self._sinks:
            if sink.needs_audio:
                self._call(sink, sink.write_audio, samples, sample_rate, end_seconds)

    def reopen(self) -> None:
        for sink, _ in self._sinks:
            self._call(sink, sink.reopen)

    def close(self) -> None:
        """Close all sinks, the first one last."""
        for sink, _ in reversed(self._sinks):
            self._call(sink, sink.close)
        self._sinks.clear()

    def _call(self, sink: Sink, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except BrokenPipeError:
            raise
        except Exception as error:
            if id(sink) not in self._successes:
                reason = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
                self._log(f"{sink.name}: {reason}; the stream continues without this output until it works again")
            self._successes[id(sink)] = 0
        else:
            if id(sink) in self._successes:
                self._successes[id(sink)] += 1
                # Not after one write: on a full disk a short line may fit while a long one does not.
                if self._successes[id(sink)] == _RECOVERY_WRITES:
                    del self._successes[id(sink)]
                    self._log(f"{sink.name}: works again")


def open_sinks(outputs: Iterable[str | Mapping[str, Any]], context: SinkContext) -> SinkGroup:
    """Open the outputs of a configuration.

    Args:
        outputs: Addresses, each `json:FILE`, `csv:FILE` (`-` for standard output), `terminal`,
            `mqtt://HOST[:PORT]/TOPIC`, `mqtts://...` or `record:FOLDER`; or tables with an address as `to`, with
            `report` (`all`, `results` or `events`), and with the options of the sink by name.
        context: Facts about the stream.

    Raises:
        ValueError: An output is of another kind, or an option is unknown or out of range.
        OSError: A file or a folder cannot be opened.
        ImportError: A package that an output needs is not installed.

    >>> open_sinks(["xml:-"], SinkContext())
    Traceback (most recent call last):
    ValueError: `output` must be json:FILE, csv:FILE, terminal, mqtt://HOST/TOPIC, mqtts://HOST/TOPIC or record:FOLDER;
    received: 'xml:-'
    """
    group = SinkGroup(context.log)
    try:
        for output in outputs:
            options = {"to": output} if isinstance(output, str) else dict(output)
            address, report = options.pop("to", ""), options.pop("report", "all")
            if report not in _REPORTS:
                raise ValueError(f"`report` must be one of {', '.join(_REPORTS)}; received: {report!r}")
            group.add(_open_sink(address, options, context), report)
    except BaseException:
        group.close()
        raise
    return group


def _open_sink(address: Any, options: dict[str, Any], context: SinkContext) -> Sink:
    kind, _, target = address.partition(":") if isinstance(address, str) else ("", "", "")
    if kind not in _SINK_CLASSES or (kind == "terminal") != (address == kind):
        # A password, or a part of one before a comma, may follow.
        received = re.sub("://.*", "://…", address, flags=re.DOTALL) if isinstance(address, str) else address
        raise ValueError(
            "`output` must be json:FILE, csv:FILE, terminal, mqtt://HOST/TOPIC, mqtts://HOST/TOPIC or record:FOLDER; "
            f"received: {received!r}"
        )
    module, class_name = _SINK_CLASSES[kind]
    sink_class = getattr(import_module(f"kerastag.edge.sinks.{module}"), class_name)
    if kind == "mqtts":
        options = {**context.mqtt_options, **options}
    _check_options(kind, sink_class, options)
    if kind == "terminal":
        return sink_class(**options)
    if kind == "record":
        return sink_class(target, context.log, **{"delay_seconds": context.delay_seconds, **options})
    if module == "mqtt":
        state = "lost" if context.is_live else "listening"
        return sink_class(address, context.classes, context.log, context.model, state, **options)
    return sink_class(target, **options)


def _check_options(kind: str, sink_class: Callable[..., Sink], options: Mapping[str, Any]) -> None:
    """Check that each option is a keyword-only argument of the sink, with a value of its type."""
    allowed = {
        name: parameter.annotation
        for name, parameter in inspect.signature(sink_class).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "stream"
    }
    for name, value in options.items():
        if name not in allowed:
            raise ValueError(f"`{name}` is not an option of {kind}; must be one of report, {', '.join(allowed)}")
        type_name = allowed[name].split(" | ")[0]  # The annotation is a string in these modules.
        types, description = _OPTION_TYPES[type_name]
        if not isinstance(value, types) or (isinstance(value, bool) and type_name != "bool"):
            received = type(value).__name__ if name == "password" else repr(value)[:200]
            raise ValueError(f"`{name}` of {kind} must be {description}; received: {received}")
        if isinstance(value, int | float) and not abs(value) < _MAX_NUMBER:  # Also NaN.
            raise ValueError(f"`{name}` of {kind} must be finite, of at most 64 bits; received: another number")
