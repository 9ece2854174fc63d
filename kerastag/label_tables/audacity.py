"""Label tracks of Audacity."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from kerastag._csv import read_records
from kerastag.label_tables.rows import LabelRow, parse_seconds, parse_times, widen_point


def read_audacity(path: Path, text: str) -> Iterator[LabelRow]:
    """Read the labels of a track, which names no recording."""
    for line, cells in read_records(path, text, "\t", quoting=csv.QUOTE_NONE):
        if cells[0] == "\\":  # the frequencies of the label before
            continue
        place = f"{path}: line {line}"
        onset, offset, label = (*cells, "", "", "")[:3]
        if onset == offset:  # A point stands for the second around it.
            start, end = widen_point(parse_seconds(onset, place))
        else:
            start, end = parse_times(onset, offset, place)
        names = [name.strip() for name in re.split("[;|]", label) if name.strip()]
        yield LabelRow(f"line {line}", "", tuple(dict.fromkeys(names)), start, end)
