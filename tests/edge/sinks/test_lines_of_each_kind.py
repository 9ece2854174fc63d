"""Results and events as JSON Lines, CSV and in a terminal."""

import csv
import io
import json

import pytest
from edge.sinks.reports import MOMENT, create_event, create_result

from kerastag.edge.sinks.terminal import TerminalSink
from kerastag.edge.sinks.text import CSV_COLUMNS, CsvSink, JsonSink


def test_json_lines_hold_results_and_events(tmp_path):
    sink = JsonSink(str(tmp_path / "a.jsonl"))
    sink.write_result(create_result(0.25, 0.87654321, start=2.0, time=MOMENT, lost=0.5))
    sink.write_event(create_event())
    sink.write_event(create_event("Rain, heavy", 1.0, 2.5, MOMENT))
    sink.close()
    first, begin, end = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
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
    rows = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))
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
    for part in text.replace("\r", "").split("\x1b[")[0:1] + text.replace("\r", "").split("\x1b[")[1:]:
        code = ""
        while part and (part[0].isdigit()):
            code, part = code + part[0], part[1:]
        if part[:1] == "A" and code:
            row, part = row - int(code), part[1:]
        elif part[:1] == "K" and not code:
            lines[row], part = "", part[1:]
        elif part[:1] == "J" and not code:
            lines[row:], part = [""] * (rows - row), part[1:]
        for piece in part.split("\n")[:-1]:
            lines[row] += piece
            row += 1
        lines[row] += part.split("\n")[-1]
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
    with pytest.raises(ValueError, match="`events` must be at least 0; received: -1"):
        TerminalSink(events=-1)
