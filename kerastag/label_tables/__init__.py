"""Tables of the labels of recordings, as data sets, annotation programs and spreadsheets write them.

The first line decides the format and the delimiter: ESC-50, UrbanSound8K, FSD50K, weak and strong labels of DCASE,
AudioSet's segments, selection tables of Raven, label tracks of Audacity, exports of Whombat, or any table with a column
of file names and a column of labels. Text is UTF-8, UTF-16 with a byte order mark, or Windows-1252 with a warning.
"""

from kerastag.label_tables.reading import AUDIOSET_SEGMENTS, read_label_table
from kerastag.label_tables.recording_index import RecordingIndex
from kerastag.label_tables.rows import LabelRow, LabelTable

__all__ = ["AUDIOSET_SEGMENTS", "LabelRow", "LabelTable", "RecordingIndex", "read_label_table"]
