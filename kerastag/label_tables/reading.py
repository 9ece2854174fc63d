"""Read a table of labels of any format."""

import io
import os
import re
from pathlib import Path

from kerastag._csv import read_text
from kerastag.label_tables.audacity import read_audacity
from kerastag.label_tables.columns import read_columns
from kerastag.label_tables.rows import LabelTable
from kerastag.label_tables.segments import read_segments, split_segment
from kerastag.label_tables.whombat import read_whombat
from kerastag.labels import LabelSet

AUDIOSET_SEGMENTS = "AudioSet segments"


def read_label_table(
    path: str | os.PathLike[str],
    *,
    classes: LabelSet | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
) -> LabelTable:
    r"""Read a table of labels.

    A cell may hold several labels, separated by `;` or `|`. A comma separates labels too if no space follows it, or if
    both parts are classes of their own; otherwise it belongs to the name, as in `Child speech, kid speaking`.

    Args:
        path: Path of the table.
        classes: Classes, whose names may contain separators; None for AudioSet's.
        path_column: Name of the column of file names; None takes the usual names, such as `path` and `filename`.
        label_column: Name of the column of labels, or key of Whombat's tags; None takes the usual names, such as
            `labels` and `category`.
        separator: Text between the labels of a cell.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The text, a column, a row or a time is invalid.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "esc50.csv")
    >>> _ = path.write_text("filename,fold,target,category\n1-100032-A-0.wav,1,0,dog\n")
    >>> table = read_label_table(path)
    >>> table.format, table.rows[0].labels
    ('ESC-50', ('dog',))
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if separator == "":
        raise ValueError("`separator` must be at least one character; received: ''")
    text = read_text(path)
    if text.lstrip()[:1] == "{":
        return LabelTable(path, "Whombat export", tuple(read_whombat(path, text, label_column)))
    first_line = next((line for line in io.StringIO(text, newline="") if line.strip() and line[0] != "#"), "")
    if split_segment(first_line):
        return LabelTable(path, AUDIOSET_SEGMENTS, tuple(read_segments(path, text)))
    if re.match(r"\\\t|[\d.,]+\t[\d.,]+(\t|\s*$)", first_line):
        return LabelTable(path, "Audacity label track", tuple(read_audacity(path, text)))
    return read_columns(path, text, classes, path_column, label_column, separator)
