"""Several outputs at once: their addresses, their options, and one that fails."""

import json
from pathlib import Path

import numpy as np
import pytest
from edge.passwords import find_pieces, generate_passwords
from edge.sinks.reports import MOMENT, create_event, create_result
from edge.sinks.test_text import limit_file_size

from kerastag.edge.sinks import Sink, SinkContext, SinkGroup, open_sinks
from kerastag.edge.sinks.sink import SourceReport


def test_each_output_gets_the_selected_reports(tmp_path):
    group = open_sinks(
        [
            f"json:{tmp_path}/all.jsonl",
            {"to": f"csv:{tmp_path}/events.csv", "report": "events"},
            {"to": f"json:{tmp_path}/results.jsonl", "report": "results", "max_megabytes": 1, "kept_files": 0},
        ],
        SinkContext(),
    )
    group.write_result(create_result(0.5))
    group.write_event(create_event())
    assert not group.needs_audio
    group.close()
    for name, expected in (("all", ["result", "event"]), ("results", ["result"])):
        assert [
            json.loads(line)["type"] for line in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ] == expected
    assert [line.split(",")[0] for line in (tmp_path / "events.csv").read_text(encoding="utf-8").splitlines()] == [
        "type",
        "begin",
    ]


def test_a_recorder_gets_audio_and_buffers_the_delay_of_events(tmp_path):
    output = {"to": f"record:{tmp_path}", "before_seconds": 1, "longest_seconds": 2.0, "after_seconds": 0}
    group = open_sinks([output, f"json:{tmp_path}/a.jsonl"], SinkContext(delay_seconds=4.0))
    assert group.needs_audio
    for second in range(20):
        group.write_audio(np.zeros(1_000, np.float32), 1_000, second + 1.0)
    (recorder, _), _ = group._sinks
    assert sum(len(block) for _, block in recorder._buffer._blocks) == 8_000  # 7 s, and the block in which they start
    group.close()


def test_an_output_that_fails_is_reported_once_and_stops_nothing(tmp_path):
    lines = []
    group = open_sinks([f"json:{tmp_path}/full.jsonl", f"json:{tmp_path}/good.jsonl"], SinkContext(lines.append))
    good, _ = group._sinks[1]
    good.write_result = lambda report: lines.append("good")
    with limit_file_size(50):
        for _ in range(3):
            group.write_result(create_result(0.5))
    assert len(lines) == 4
    for _ in range(10):
        assert len(lines) < 15
        group.write_result(create_result(0.5))
    path = tmp_path / "full.jsonl"
    assert lines[0].startswith(f"{path}: [Errno 27] {path}: File too large; the stream continues without this output")
    assert [line for line in lines[1:] if line != "good"] == [f"{path}: works again"]
    assert lines.count("good") == 13
    group.close()
    assert len(path.read_text(encoding="utf-8").splitlines()) == 10


def test_an_output_that_fails_in_an_unexpected_way_stops_nothing(tmp_path):
    class FailingSink(Sink):
        name = "new output"

        def write_result(self, report):
            raise RuntimeError("surprise")

    lines = []
    group = SinkGroup(lines.append)
    group.add(FailingSink())
    for _ in range(3):
        group.write_result(create_result(0.5))
    reason = "RuntimeError: surprise; the stream continues without this output until it works again"
    assert lines == [f"new output: {reason}"]


def test_every_output_gets_the_state_of_the_source(tmp_path, capsys):
    outputs = [{"to": f"{kind}:{tmp_path}/a.{kind}", "report": "results"} for kind in ("json", "csv")]
    group = open_sinks([*outputs, "terminal", f"record:{tmp_path}/clips"], SinkContext())
    for state, time in (("listening", MOMENT), ("lost", MOMENT), ("silent", None)):
        group.write_source(SourceReport(state, "mic", 61.5, time))
    group.close()
    lines = [json.loads(line) for line in (tmp_path / "a.json").read_text(encoding="utf-8").splitlines()]
    values = {"type": "source", "time": "2026-11-18T11:06:40.250Z", "name": "mic", "seconds": 61.5}
    assert lines[:2] == [{**values, "state": state} for state in ("listening", "lost")]
    assert lines[2] == {"type": "source", "state": "silent", "name": "mic", "seconds": 61.5}
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[2:] == [
        "lost,2026-11-18T11:06:40.250Z,61.5,,,,",
        "silent,,61.5,,,,",
    ]
    first, second = capsys.readouterr().out.splitlines()  # not that it listens at the start
    assert first.endswith("  source lost")
    assert second == "! 0:01:01  source silent"


def test_a_closed_standard_output_ends_the_stream():
    class ClosedSink(Sink):
        name = "standard output"

        def write_result(self, report):
            raise BrokenPipeError

    group = SinkGroup()
    group.add(ClosedSink())
    with pytest.raises(BrokenPipeError):
        group.write_result(create_result(0.5))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("xml:-", "`output` must be json:FILE, csv:FILE, terminal, .*received: 'xml:-'"),
        ("terminal:1", "`output` must be .*received: 'terminal:1'"),
        ("", "`output` must be .*received: ''"),
        ("json:", "`output` must name a file after the colon"),
        ("record:", "`output` must name a folder after record:"),
        ({"report": "all"}, "`output` must be .*received: ''"),
        ({"to": "json:-", "report": "some"}, "`report` must be one of all, results, events; received: 'some'"),
        (
            {"to": "json:-", "quota": 1},
            "`quota` is not an option of json; must be .* report, max_megabytes, kept_files",
        ),
        ({"to": "json:-", "max_megabytes": "1"}, "`max_megabytes` of json must be a number; received: '1'"),
        ({"to": "json:a", "max_megabytes": float("inf")}, "`max_megabytes` of json must be finite, of at most 64 bits"),
        (
            {"to": "json:a", "max_megabytes": 1e18},
            "`max_megabytes` must be above 0, at most 1e[+]06; ",
        ),
        ({"to": "csv:a", "kept_files": 10**9}, "`kept_files` must be from 0 to 1000; received: 1000000000"),
        ({"to": "terminal", "events": 2**63}, "`events` of terminal must be finite, of at most 64 bits"),
        ({"to": "terminal", "events": 1_001}, "`events` must be from 0 to 1000; received: 1001"),
        ({"to": "record:a", "delay_seconds": float("nan")}, "`delay_seconds` of record must be finite"),
        ({"to": "mqtt://a/b", "password": 123}, "`password` of mqtt must be a string; received: int"),
        ({"to": "json:-", "kept_files": True}, "`kept_files` of json must be an integer; received: True"),
        ({"to": "terminal", "stream": 1}, "`stream` is not an option of terminal; must be one of report, events"),
    ],
)
def test_invalid_outputs_are_refused(output, message):
    with pytest.raises(ValueError, match=message):
        open_sinks([output], SinkContext())


def test_outputs_that_were_opened_before_an_error_are_closed_and_a_password_is_not_printed(tmp_path):
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("needs /proc")
    before = len(list(open_files.iterdir()))
    with pytest.raises(ValueError, match="`output` must be"):
        open_sinks([f"json:{tmp_path}/a.jsonl", "xml:-"], SinkContext())
    assert len(list(open_files.iterdir())) == before
    for password in generate_passwords(200):
        for kind in ("http", "mqtt", "mqtts"):
            with pytest.raises(ValueError, match="://…") as error_info:
                open_sinks([f"{kind}://me:{password}@host/topic"], SinkContext())
            assert not find_pieces(password, str(error_info.value))
