"""Tests of the WebSocket `/v1/stream`."""

import json
import time

import numpy as np
import pytest
from serving.servers import SAMPLE_RATE, create_waveform, encode, run_server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from kerastag import Tagger
from kerastag.events import EventTracker

START = {"type": "start", "sample_rate": SAMPLE_RATE, "encoding": "F32_LE", "channels": 1}


def connect_to(server, **options):
    return connect(server.url.replace("http:", "ws:") + "/v1/stream", compression=None, **options)


def stream(server, start, content=b"", block_bytes=50_001):
    """Stream PCM, and return the messages of the server."""
    with connect_to(server) as connection:
        connection.send(json.dumps(start))
        messages = [json.loads(connection.recv())]
        for first in range(0, len(content), block_bytes):
            connection.send(content[first : first + block_bytes])
        connection.send(json.dumps({"type": "end"}))
        messages += [json.loads(message) for message in connection]
    return messages


def get_error(server, *messages):
    """Send messages, and return the code of the error and of the close."""
    with connect_to(server) as connection:
        for message in messages:
            connection.send(message if isinstance(message, bytes | str) else json.dumps(message))
        answer = json.loads(connection.recv())
        while answer["type"] != "error":
            answer = json.loads(connection.recv())
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
    assert "\n" not in answer["message"]
    return answer["code"], closed.value.rcvd.code


def test_a_stream_has_the_probabilities_of_the_file_for_the_same_windows(server):
    """The windows of a file begin 9.92 s apart, so those of a stream with this hop are the same."""
    waveform = create_waveform(27.3)
    tagger = Tagger.load("esc10")
    windows = list(tagger.predict_windows(waveform, "clipwise", sample_rate=SAMPLE_RATE))
    messages = stream(server, {**START, "top": 10, "hop_seconds": 9.92}, waveform.tobytes())
    assert messages[0] == {
        "type": "ready", "model": "esc10", "version": "1", "sample_rate": SAMPLE_RATE, "hop_seconds": 9.92,
        "window_seconds": 10.0,
    }  # fmt: skip
    results = [message for message in messages if message["type"] == "result"]
    assert len(results) == len(windows) == 3
    for result, (window, outputs) in zip(results, windows, strict=True):
        assert result["start_seconds"] == pytest.approx(window.start_seconds, abs=1e-3)
        assert result["end_seconds"] == pytest.approx(window.end_seconds, abs=1e-3)
        probabilities = {tag["name"]: tag["probability"] for tag in result["tags"]}
        expected = dict(zip(tagger.labels.names, outputs["clipwise"].tolist(), strict=True))
        assert probabilities == pytest.approx(expected, abs=1e-4)
    assert messages[-1] == {"type": "end", "seconds": 27.3}


def test_a_stream_has_the_events_of_the_file(server):
    waveform = create_waveform(27.3)
    tagger = Tagger.load("esc10")
    timeline = tagger.predict_timeline(waveform, sample_rate=SAMPLE_RATE)
    from kerastag.events import EventRules

    tracker = EventTracker(10, tagger.seconds_per_frame, EventRules(0.05))
    events = [*tracker.update(0.0, timeline.probabilities), *tracker.flush()]
    expected = [(e.onset_seconds, e.offset_seconds, tagger.labels.names[e.class_index]) for e in events]
    messages = stream(server, {**START, "threshold": 0.05, "hop_seconds": 9.92}, waveform.tobytes())
    events = [message for message in messages if message["type"] == "event"]
    assert {event["state"] for event in events} == {"begin", "end"}
    received = [(e["onset_seconds"], e.get("offset_seconds"), e["name"]) for e in events]
    assert sorted(received, key=str) == sorted(
        [(round(on, 3), off if off is None else round(off, 3), name) for on, off, name in expected], key=str
    )


def test_results_depend_neither_on_the_messages_nor_on_the_encoding(server):
    waveform = np.round(create_waveform(12.0) * 16_384) / 16_384
    start = {**START, "top": 10}
    expected = stream(server, start, waveform.astype("<f4").tobytes())
    stereo = np.repeat((waveform * 32_768).astype("<i2"), 2)
    actual = stream(server, {**start, "encoding": "S16_LE", "channels": 2}, stereo.tobytes(), block_bytes=9_999)
    assert actual == expected
    assert len([message for message in expected if message["type"] == "result"]) == 13  # every 0.96 s, and at the end


def test_audio_at_another_rate_is_resampled(server):
    waveform = create_waveform(3.0, sample_rate=48_000)
    messages = stream(server, {**START, "sample_rate": 48_000}, waveform.tobytes())
    assert messages[-1]["seconds"] == 3.0


def test_events_can_be_limited_to_classes(server):
    messages = stream(server, {**START, "classes": ["Rain"], "top": 5}, create_waveform(3.0).tobytes())
    assert {tag["name"] for message in messages if "tags" in message for tag in message["tags"]} == {"Rain"}


def test_an_empty_stream_ends(server):
    assert stream(server, START)[1:] == [{"type": "end", "seconds": 0.0}]


def test_samples_that_are_no_audio_are_a_warning(server):
    waveform = create_waveform(3.0)
    waveform[: SAMPLE_RATE // 2] = np.nan
    messages = stream(server, START, waveform.tobytes())
    warnings = [message["message"] for message in messages if message["type"] == "warning"]
    assert len(warnings) == 1
    assert "such blocks count as lost" in warnings[0]


@pytest.mark.parametrize(
    ("messages", "code", "close_code"),
    [
        (["{"], "bad_message", 1008),
        ([b"\0\0"], "bad_message", 1008),
        ([{"type": "begin"}], "bad_message", 1008),
        ([{**START, "tok": 1}], "invalid_parameter", 1008),
        ([{"type": "start"}], "invalid_parameter", 1008),
        ([{**START, "encoding": "MP3"}], "invalid_parameter", 1008),
        ([{**START, "sample_rate": 10}], "invalid_parameter", 1008),
        ([{**START, "sample_rate": 1e400}], "invalid_parameter", 1008),
        ([{**START, "channels": True}], "invalid_parameter", 1008),
        ([{**START, "classes": ["Cow"]}], "invalid_parameter", 1008),
        ([{**START, "top": "many"}], "invalid_parameter", 1008),
        ([{**START, "hop_seconds": 11}], "invalid_parameter", 1008),
        ([{**START, "model": "birds"}], "unknown_model", 1008),
        ([{**START, "model": ["birds"]}], "invalid_parameter", 1008),
        ([START, {"type": "pause"}], "bad_message", 1008),
        ([START, bytes(1_200_000)], "too_large", 1009),
        ([START, encode(create_waveform(1.0), format="FLAC")], "invalid_audio", 1008),
    ],
)
def test_a_fault_is_an_error_and_a_close(server, messages, code, close_code):
    assert get_error(server, *messages) == (code, close_code)


def test_a_client_that_leaves_frees_its_place():
    with run_server("--max-streams", "1") as server:
        with connect_to(server) as connection:
            connection.send(json.dumps(START))
            connection.recv()
            connection.send(create_waveform(5.0).tobytes())
            assert get_error(server) == ("too_many_streams", 1013)
        deadline = time.monotonic() + 10
        while (messages := _try(server)) is None:
            assert time.monotonic() < deadline
        assert messages[-1]["type"] == "end"


def _try(server):
    try:
        return stream(server, START, create_waveform(1.0).tobytes())
    except ConnectionClosed:
        return None


def test_a_stream_without_messages_ends():
    with run_server("--stream-idle-seconds", "0.3", "--header-timeout-seconds", "1") as server:
        assert get_error(server) == ("idle", 1008)
        assert get_error(server, START) == ("idle", 1008)
