"""Rows of a table of labels, and their times."""

import math
from dataclasses import dataclass
from pathlib import Path

_POINT_SECONDS = 1.0


@dataclass(frozen=True)
class LabelRow:
    """Labels of a recording or of a part of it.

    Attributes:
        place: Line or record of the table, for messages.
        recording: Name of the recording; empty in formats that describe one recording without its name.
        labels: Names or identifiers of classes; none where a recording or part has no label.
        onset: Start of the labeled part, seconds; None for the whole recording.
        offset: End of the labeled part, seconds, above `onset`.
        fold: Fold of a cross-validation; may be empty.
        negatives: Names or identifiers of classes that the recording or part does not have.
    """

    place: str
    recording: str
    labels: tuple[str, ...]
    onset: float | None = None
    offset: float | None = None
    fold: str = ""
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelTable:
    """Rows of a table of labels, and the format that was recognized."""

    path: Path
    format: str
    rows: tuple[LabelRow, ...]

    @property
    def has_times(self) -> bool:
        """Whether labels have a start and an end."""
        return any(row.onset is not None for row in self.rows)


def parse_times(onset: str, offset: str, place: str) -> tuple[float, float]:
    """Parse a start and an end, seconds, with a decimal point or comma; a ValueError begins with `place`."""
    start, end = parse_seconds(onset, place), parse_seconds(offset, place)
    if not 0 <= start < end < math.inf:
        received = f"{onset[:40]!r} and {offset[:40]!r}"
        raise ValueError(f"{place}: onset must be at least 0 and offset above onset; received: {received}")
    return start, end


def parse_seconds(text: str, place: str) -> float:
    """Parse seconds, with a decimal point or comma; a ValueError begins with `place`."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{place}: onset and offset must be seconds; received: {text[:40]!r}") from None


def widen_point(seconds: float) -> tuple[float, float]:
    """Return the start and the end of the second around a point in time."""
    return max(0.0, seconds - _POINT_SECONDS / 2), seconds + _POINT_SECONDS / 2
