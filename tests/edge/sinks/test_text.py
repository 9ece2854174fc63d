"""Results and events as lines: JSON Lines, CSV, a terminal; files that are rotated, reopened, or on a full disk."""

import contextlib
import csv
import io
import json
import os
import re
import resource

import pytest
from edge.sinks.reports import MOMENT, create_event, create_result

from kerastag.edge.sinks.terminal import TerminalSink
from kerastag.edge.sinks.text import CSV_COLUMNS, CsvSink, JsonSink, RotatingFile


def test_json_lines_hold_results_and_events(tmp_path):
    sink = JsonSink(str(tmp_path / "a.jsonl"))
    sink.write_result(create_result(0.25, 0.87654321, start=2.0, time=MOMENT, lost=0.5))
    sink.write_event(create_event())
    sink.write_event(create_event("Rain, heavy", 1.0, 2.5, MOMENT))
    sink.close()
    first, begin, end = map(json.loads, (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines())
    assert first == {
        "type": "result",
        "time": "2026-11-18T11:06:40.250Z",
        "start_seconds": 2.0,
        "end_seconds": 3.0,
        "tags": [
            {"name": "Rain, heavy", "mid": "/m/R", "probability": 0.8765},
            {"name": "Bark", "mid": "/m/B", "probability": 0.25},
        ],
        "lost_seconds": 0.5,
    }
    probabilities = {"peak_probability": 0.75, "mean_probability": 0.5}
    shared = {"type": "event", "onset_seconds": 1.0, **probabilities}
    assert begin == {**shared, "state": "begin", "name": "Bark", "mid": "/m/B"}
    ended = {"state": "end", "name": "Rain, heavy", "mid": "/m/R", "offset_seconds": 2.5}
    assert end == {**shared, **ended, "time": "2026-11-18T11:06:40.250Z"}


def test_csv_rows_hold_tags_and_events(tmp_path):
    for _ in range(2):  # the header is written once
        sink = CsvSink(str(tmp_path / "a.csv"))
        sink.write_result(create_result(0.25, 0.5))
        sink.write_event(create_event("Rain, heavy", 1.0, 2.5, MOMENT))
        sink.write_event(create_event())
        sink.close()
    rows = list(csv.reader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == list(CSV_COLUMNS)
    assert rows[1:5] == [
        ["result", "", "0.0", "1.0", "Rain, heavy", "/m/R", "0.5"],
        ["result", "", "0.0", "1.0", "Bark", "/m/B", "0.25"],
        ["end", "2026-11-18T11:06:40.250Z", "1.0", "2.5", "Rain, heavy", "/m/R", "0.75"],
        ["begin", "", "1.0", "", "Bark", "/m/B", "0.75"],
    ]
    assert rows[5:] == rows[1:5]


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def render(text, rows=40):
    """Return the lines that a terminal shows after text with escape sequences that move up and erase."""
    lines, row = [""] * rows, 0
    for count, code, part in re.findall(r"(?:\x1b\[(\d*)([AKJ]))?([^\x1b]*)", text.replace("\r", "")):
        if code == "A":
            row -= int(count)
        elif code == "K":
            lines[row] = ""
        elif code == "J":
            lines[row:] = [""] * (rows - row)
        for number, piece in enumerate(part.split("\n")):
            row += number > 0
            lines[row] += piece
    return [line.rstrip() for line in lines if line.strip()]


def test_the_terminal_draws_in_place(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    screen = FakeTerminal()
    sink = TerminalSink(events=2, stream=screen)
    sink.write_result(create_result(0.25, 1.0))
    sink.write_event(create_event("Bark", 61.0))
    sink.write_result(create_result(0.5, 0.0, start=3_700.0, lost=1.5))
    for second in range(3):
        sink.write_event(create_event("Rain, heavy", 70.0 + second, 71.0 + second))
    sink.close()
    shown = render(screen.getvalue())
    assert shown[0] == "processed 1:01:41, 1.5 s lost"
    assert shown[1].startswith("● Bark")
    assert shown[1].count("█") == 20 == shown[1].count("·")
    assert shown[1].endswith("0.500")
    assert shown[2].startswith("  Rain, heavy")
    assert shown[3].startswith("● 0:01:01  Bark")
    assert [line[:9] for line in shown[4:]] == ["○ 0:01:12", "○ 0:01:11"]
    assert shown[4].endswith("0.750    1.0 s")


def test_the_view_is_never_larger_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("LINES", "4")
    screen = FakeTerminal()
    sink = TerminalSink(stream=screen)
    for second in range(9):
        sink.write_event(create_event("Rain, heavy", second, second + 1.0))
    sink.write_result(create_result(0.1, 0.2, 0.3))
    shown = render(screen.getvalue())
    assert len(shown) == 3
    assert max(map(len, shown)) < 30


def test_without_a_terminal_each_event_is_a_line():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    sink = TerminalSink(stream=stream)
    sink.write_result(create_result(0.5))
    sink.write_event(create_event("Bark", 61.0))
    sink.write_event(create_event("Bark", 61.0, 62.5))
    lines = stream.buffer.getvalue().decode().splitlines()
    assert [line.split() for line in lines] == [
        ["*", "0:01:01", "Bark", "0.750"],
        ["o", "0:01:01", "Bark", "0.750", "1.5", "s"],
    ]
    with pytest.raises(ValueError, match="`events` must be from 0 to 1000; received: -1"):
        TerminalSink(events=-1)


@contextlib.contextmanager
def limit_file_size(count):
    """Limit the files of this process to so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_are_appended_and_written_at_once(tmp_path):
    path = tmp_path / "below" / "a.txt"
    for number in range(2):
        file = RotatingFile(path, "header")
        file.write(f"line {number}")
        assert path.read_text(encoding="utf-8").splitlines() == ["header", "line 0", "line 1"][: number + 2]
        file.close()


def test_files_are_rotated_and_the_oldest_is_deleted(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path, "head", max_megabytes=20e-6, kept_files=2)
    for number in range(9):
        file.write(f"line {number}")
    file.close()
    assert path.read_text(encoding="utf-8") == "head\nline 8\n"
    assert (tmp_path / "a.txt.1").read_text(encoding="utf-8") == "head\nline 6\nline 7\n"
    assert (tmp_path / "a.txt.2").read_text(encoding="utf-8") == "head\nline 4\nline 5\n"
    assert len(list(tmp_path.iterdir())) == 3
    single = RotatingFile(tmp_path / "b.txt", max_megabytes=8e-6, kept_files=0)
    for number in range(3):
        single.write(f"line {number}")
    single.close()
    assert (tmp_path / "b.txt").read_text(encoding="utf-8") == "line 2\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_leaves_whole_lines_and_later_lines_are_written(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path)
    file.write("first")
    with limit_file_size(10), pytest.raises(OSError, match=f"{path}: File too large"):
        file.write("second, which does not fit")
    assert path.read_text(encoding="utf-8") == "first\n"
    file.write("third")
    file.close()
    assert path.read_text(encoding="utf-8") == "first\nthird\n"


def test_after_an_external_rotation_lines_go_to_the_new_file(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path, "head")
    os.replace(path, tmp_path / "old.txt")
    file.write("to the old one")
    file.reopen()
    file.write("to the new one")
    file.close()
    assert (tmp_path / "old.txt").read_text(encoding="utf-8") == "head\nto the old one\n"
    assert path.read_text(encoding="utf-8") == "head\nto the new one\n"


def test_options_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`max_megabytes` must be above 0, at most 1e\\+06; received: 0"):
        RotatingFile(tmp_path / "a.txt", max_megabytes=0)
    with pytest.raises(ValueError, match="`kept_files` must be from 0 to 1000; received: -1"):
        RotatingFile(tmp_path / "a.txt", kept_files=-1)
    assert not list(tmp_path.iterdir())


def test_the_target_is_standard_output_or_a_file(tmp_path, capsys):
    sink = CsvSink("-")
    sink.write_event(create_event("Bark", 1.0, 2.0))
    assert capsys.readouterr().out == ",".join(CSV_COLUMNS) + "\nend,,1.0,2.0,Bark,/m/B,0.75\n"
    with pytest.raises(ValueError, match="`output` must name a file after the colon"):
        CsvSink("")
    with pytest.raises(OSError, match="directory"):
        CsvSink(str(tmp_path))
