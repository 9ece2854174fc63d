"""Where results and events go: JSON lines, a table, a terminal, MQTT, recordings; as many at once as one likes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from kerastag.edge.reports import EventReport, ResultReport

__all__ = ["KINDS", "REPORTED", "Outputs", "Sink", "Surroundings", "open_outputs"]

REPORTED = ("all", "results", "events")
"""What an output gets."""
_WELL = 10  # successes in a row after which a sink works again
_SINKS = {
    "json": ("json_lines", "JsonLines"),
    "csv": ("csv_rows", "CsvRows"),
    "terminal": ("terminal", "Terminal"),
    "mqtt": ("mqtt", "Mqtt"),
    "mqtts": ("mqtt", "Mqtt"),
    "record": ("recorder", "Recorder"),
}
KINDS = tuple(_SINKS)
"""What an output may begin with."""


class Sink(Protocol):
    """What takes results and events, one after the other, and may raise OSError where it cannot."""

    name: str

    def result(self, report: ResultReport) -> None: ...
    def event(self, report: EventReport) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What outputs need to know of the stream.

    Args:
        report: Takes one line for people.
        classes: Names of the classes that were chosen; none where all are heard.
        model: What the model is called.
        delay_seconds: How late an event may be known after its onset.
    """

    report: Callable[[str], None] = print
    classes: tuple[str, ...] = ()
    model: str = ""
    delay_seconds: float = 15.0


class Outputs:
    """Several sinks as one: what one of them cannot take is said once, and stops neither the others nor the stream.

    A pipe that nobody reads any more ends the stream: `BrokenPipeError` passes.
    """

    def __init__(self, report: Callable[[str], None] = print) -> None:
        self._report = report
        self._sinks: list[tuple[Sink, str]] = []
        self._successes: dict[int, int] = {}  # in a row, of a sink that has failed
        self.failures = 0
        """How often a sink could not take what it was given."""

    def add(self, sink: Sink, reported: str = "all") -> None:
        """One more sink, which gets results, events, or all."""
        self._sinks.append((sink, reported))

    @property
    def records(self) -> bool:
        """Whether any sink takes audio."""
        return any(hasattr(sink, "audio") for sink, _ in self._sinks)

    def audio(self, samples: np.ndarray, sample_rate: int, end_seconds: float) -> None:
        """The block of the stream that ends at this second, for those that record."""
        for sink, _ in self._sinks:
            if hasattr(sink, "audio"):
                self._do(sink, sink.audio, samples, sample_rate, end_seconds)

    def result(self, report: ResultReport) -> None:
        """A result, to each sink that gets results."""
        for sink, reported in self._sinks:
            if reported != "events":
                self._do(sink, sink.result, report)

    def event(self, report: EventReport) -> None:
        """An event, to each sink that gets events."""
        for sink, reported in self._sinks:
            if reported != "results":
                self._do(sink, sink.event, report)

    def reopen(self) -> None:
        """Files that were put aside are begun anew."""
        for sink, _ in self._sinks:
            self._do(sink, sink.reopen)

    def close(self) -> None:
        """Whatever is still to be written is written; the first one last, so that it sees the others' end."""
        for sink, _ in reversed(self._sinks):
            self._do(sink, sink.close)
        self._sinks.clear()

    def _do(self, sink: Sink, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except BrokenPipeError:
            raise
        except OSError as error:
            if id(sink) not in self._successes:
                self._report(f"{sink.name}: {error}; the stream goes on without it until it works again")
            self._successes[id(sink)] = 0
            self.failures += 1
        else:
            if id(sink) in self._successes:
                self._successes[id(sink)] += 1
                if self._successes[id(sink)] == _WELL:  # a short line may fit where a long one does not
                    del self._successes[id(sink)]
                    self._report(f"{sink.name}: works again")


def open_outputs(outputs: Iterable[str | Mapping[str, Any]], surroundings: Surroundings) -> Outputs:
    """The words after `--output`, or tables of a configuration -> open sinks.

    Args:
        outputs: Each `json:FILE`, `csv:FILE` (`-` for standard output), `terminal`, `mqtt://HOST[:PORT]/TOPIC`,
            `mqtts://...` or `record:FOLDER`; or a table with that as `to`, `report` (one of `REPORTED`), and the
            sink's own options by name.
        surroundings: What they need to know of the stream.

    Raises:
        ValueError: An output of another kind, or an option that is unknown or outside its range.
        OSError: A file or a folder cannot be opened.
        ImportError: What the output needs is not installed.

    >>> open_outputs(["xml:-"], Surroundings())
    Traceback (most recent call last):
    ValueError: `output` must be json:FILE, csv:FILE, terminal, mqtt://HOST/TOPIC, mqtts://HOST/TOPIC or record:FOLDER,
    received 'xml:-'
    """
    opened = Outputs(surroundings.report)
    try:
        for output in outputs:
            table = {"to": output} if isinstance(output, str) else dict(output)
            to, reported = table.pop("to", ""), table.pop("report", "all")
            if reported not in REPORTED:
                raise ValueError(f"`report` must be one of {', '.join(REPORTED)}, received {reported!r}")
            opened.add(_sink(to, table, surroundings), reported)
    except BaseException:
        opened.close()
        raise
    return opened


def _sink(to: Any, options: dict[str, Any], surroundings: Surroundings) -> Sink:
    kind, _, target = to.partition(":") if isinstance(to, str) else ("", "", "")
    if kind not in _SINKS or (kind == "terminal") != (to == kind):
        shown = to if not isinstance(to, str) or "@" not in to else "…"
        raise ValueError(
            "`output` must be json:FILE, csv:FILE, terminal, mqtt://HOST/TOPIC, mqtts://HOST/TOPIC or record:FOLDER, "
            f"received {shown!r}"
        )
    module, name = _SINKS[kind]
    make = getattr(import_module(f"kerastag.edge.sinks.{module}"), name)
    _check_options(kind, make, options)
    if kind == "terminal":
        return make(**options)
    if kind == "record":
        return make(target, surroundings.report, **{"delay_seconds": surroundings.delay_seconds, **options})
    if module == "mqtt":
        return make(to, surroundings.classes, surroundings.report, surroundings.model, **options)
    return make(target, **options)


def _check_options(kind: str, make: Callable[..., Sink], options: Mapping[str, Any]) -> None:
    """Each option is one that the sink has, and of the type that it says."""
    allowed = {
        name: parameter.annotation
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "stream"
    }
    for name, value in options.items():
        if name not in allowed:
            raise ValueError(f"`{name}` is no option of {kind}, which has: report, {', '.join(allowed)}")
        wanted = allowed[name].split(" | ")[0]  # annotations are text here
        fits: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}
        if not isinstance(value, fits[wanted]) or (isinstance(value, bool) and wanted != "bool"):
            raise ValueError(f"`{name}` of {kind} must be a {wanted}, received {value!r}")
