"""Results and events -> rows of a table."""

from __future__ import annotations

import csv
import io
from typing import Any

from kerastag.edge.reports import EventReport, ResultReport
from kerastag.edge.sinks.text import KEPT_FILES, MAX_MEGABYTES, lines_to

__all__ = ["COLUMNS", "CsvRows"]

COLUMNS = ("type", "time", "start_seconds", "end_seconds", "name", "mid", "probability")
"""What a row holds: of a result one row a tag; of an event its highest probability, and no end while it sounds."""


class CsvRows:
    """Each tag of a result and each event -> one row with the columns `COLUMNS`.

    `type` is `result`, `begin` or `end`.

    Args:
        target: `-` for standard output, or a path.
        max_megabytes: Size beyond which a file is put aside, above 0.
        kept_files: How many older files stay, 0 or more.
    """

    def __init__(self, target: str, *, max_megabytes: float = MAX_MEGABYTES, kept_files: int = KEPT_FILES) -> None:
        self._lines = lines_to(target, ",".join(COLUMNS), max_megabytes=max_megabytes, kept_files=kept_files)
        self.name = self._lines.name

    def result(self, report: ResultReport) -> None:
        """One row a tag."""
        values = report.as_dict()
        for tag in values["tags"]:
            self._row({**values, **tag})

    def event(self, report: EventReport) -> None:
        """One row."""
        values = report.as_dict()
        self._row(
            {
                **values,
                "type": report.state,
                "start_seconds": values["onset_seconds"],
                "end_seconds": values.get("offset_seconds"),
                "probability": values["peak_probability"],
            }
        )

    def reopen(self) -> None:
        """After an external rotation."""
        self._lines.reopen()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _row(self, values: dict[str, Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow([values.get(column) for column in COLUMNS])
        self._lines.write(text.getvalue())
