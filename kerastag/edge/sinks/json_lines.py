"""Results and events -> JSON, one object a line."""

from __future__ import annotations

import json

from kerastag.edge.reports import EventReport, ResultReport
from kerastag.edge.sinks.text import KEPT_FILES, MAX_MEGABYTES, lines_to

__all__ = ["JsonLines"]


class JsonLines:
    """Each result and each event -> one line of JSON: `{"type": "event", "state": "begin", "name": "Bark", ...}`.

    Args:
        target: `-` for standard output, or a path.
        max_megabytes: Size beyond which a file is put aside, above 0.
        kept_files: How many older files stay, 0 or more.
    """

    def __init__(self, target: str, *, max_megabytes: float = MAX_MEGABYTES, kept_files: int = KEPT_FILES) -> None:
        self._lines = lines_to(target, max_megabytes=max_megabytes, kept_files=kept_files)
        self.name = self._lines.name

    def result(self, report: ResultReport) -> None:
        """One line."""
        self._lines.write(json.dumps(report.as_dict(), ensure_ascii=False))

    def event(self, report: EventReport) -> None:
        """One line."""
        self._lines.write(json.dumps(report.as_dict(), ensure_ascii=False))

    def reopen(self) -> None:
        """After an external rotation."""
        self._lines.reopen()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
