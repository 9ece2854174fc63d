"""Lists of AudioSet's segments."""

import csv
from collections.abc import Iterator
from pathlib import Path

from kerastag.label_tables.rows import LabelRow


def read_segments(path: Path, text: str) -> Iterator[LabelRow]:
    """Read AudioSet's segments, `YTID, start, end, MIDs`; the times are those of the video that the clip is from."""
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        if not (fields := split_segment(content)):
            raise ValueError(f"{path}: line {line}: must be `YTID, start, end, MIDs`; received: {content[:80]!r}")
        mids = [mid.strip() for mid in fields[3].split(",")]
        if not fields[0] or not all(mids):
            raise ValueError(f"{path}: line {line}: YTID and MIDs must not be empty; received: {content[:80]!r}")
        yield LabelRow(f"line {line}", fields[0], tuple(mids))


def split_segment(text: str) -> list[str]:
    """Split `YTID, start, end, MIDs` into its fields, or return none."""
    try:
        fields = next(csv.reader([text.strip()], skipinitialspace=True), [])
        list(map(float, fields[1:3]))
    except (ValueError, csv.Error):
        return []
    return fields if len(fields) == 4 else []
