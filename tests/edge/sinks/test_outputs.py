"""Several outputs as one: the words and tables that name them, and one that fails beside others."""

import json
from pathlib import Path

import numpy as np
import pytest
from edge.sinks.reported import event, result
from edge.sinks.test_text import largest_file

from kerastag.edge.sinks import Outputs, Surroundings, open_outputs


def test_each_gets_what_it_was_opened_for(tmp_path):
    outputs = open_outputs(
        [
            f"json:{tmp_path}/all.jsonl",
            {"to": f"csv:{tmp_path}/events.csv", "report": "events"},
            {"to": f"json:{tmp_path}/results.jsonl", "report": "results", "max_megabytes": 1, "kept_files": 0},
        ],
        Surroundings(),
    )
    outputs.result(result(0.5))
    outputs.event(event())
    assert not outputs.records
    outputs.close()
    assert [json.loads(line)["type"] for line in (tmp_path / "all.jsonl").read_text().splitlines()] == [
        "result",
        "event",
    ]
    assert [line.split(",")[0] for line in (tmp_path / "events.csv").read_text().splitlines()] == ["type", "begin"]
    assert [json.loads(line)["type"] for line in (tmp_path / "results.jsonl").read_text().splitlines()] == ["result"]


def test_a_recorder_gets_audio_and_remembers_as_long_as_events_are_late(tmp_path):
    output = {"to": f"record:{tmp_path}", "before_seconds": 1, "longest_seconds": 2.0, "after_seconds": 0}
    outputs = open_outputs([output, f"json:{tmp_path}/a.jsonl"], Surroundings(delay_seconds=4.0))
    assert outputs.records
    for second in range(20):
        outputs.audio(np.zeros(1_000, np.float32), 1_000, second + 1.0)
    (recorder, _), _ = outputs._sinks
    assert sum(len(block) for _, block in recorder._memory._blocks) == 8_000  # 7 s, and the block in which they begin
    outputs.close()


def test_one_that_fails_is_said_once_and_stops_nothing(tmp_path):
    said = []
    outputs = open_outputs([f"json:{tmp_path}/full.jsonl", f"json:{tmp_path}/good.jsonl"], Surroundings(said.append))
    good, _ = outputs._sinks[1]
    good.result = lambda report: said.append("good")
    with largest_file(50):
        for _ in range(3):
            outputs.result(result(0.5))
    assert outputs.failures == 3
    for _ in range(10):
        assert len(said) < 15
        outputs.result(result(0.5))
    line = f"{tmp_path}/full.jsonl: [Errno 27] {tmp_path}/full.jsonl: File too large; the stream goes on without it"
    assert said[0].startswith(line)
    assert [line for line in said[1:] if line != "good"] == [f"{tmp_path}/full.jsonl: works again"]
    assert said.count("good") == 13
    outputs.close()
    assert len((tmp_path / "full.jsonl").read_text().splitlines()) == 10


def test_nobody_reading_standard_output_ends_the_stream():
    class Closed:
        name = "standard output"

        def result(self, report):
            raise BrokenPipeError

    outputs = Outputs()
    outputs.add(Closed())
    with pytest.raises(BrokenPipeError):
        outputs.result(result(0.5))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("xml:-", "`output` must be json:FILE, csv:FILE, terminal, .*received 'xml:-'"),
        ("terminal:1", "`output` must be .*received 'terminal:1'"),
        ("", "`output` must be .*received ''"),
        ("json:", "`output` must name a file after the colon"),
        ("record:", "`output` must name a folder after record:"),
        ({"report": "all"}, "`output` must be .*received ''"),
        ({"to": "json:-", "report": "some"}, "`report` must be one of all, results, events, received 'some'"),
        ({"to": "json:-", "quota": 1}, "`quota` is no option of json, which has: report, max_megabytes, kept_files"),
        ({"to": "json:-", "max_megabytes": "1"}, "`max_megabytes` of json must be a float, received '1'"),
        ({"to": "json:-", "kept_files": True}, "`kept_files` of json must be a int, received True"),
        ({"to": "terminal", "stream": 1}, "`stream` is no option of terminal, which has: report, events"),
    ],
)
def test_what_is_no_output_is_refused(output, message):
    with pytest.raises(ValueError, match=message):
        open_outputs([output], Surroundings())


def test_what_was_opened_before_a_refusal_is_closed(tmp_path):
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("needs /proc")
    before = len(list(open_files.iterdir()))
    with pytest.raises(ValueError, match="`output` must be"):
        open_outputs([f"json:{tmp_path}/a.jsonl", "xml:-"], Surroundings())
    assert len(list(open_files.iterdir())) == before


def test_a_password_in_an_url_that_is_none_is_not_shown():
    with pytest.raises(ValueError, match="received '…'") as refused:
        open_outputs(["http://me:secret@host/topic"], Surroundings())
    assert "secret" not in str(refused.value)
