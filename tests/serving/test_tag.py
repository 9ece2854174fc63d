"""Tests of `POST /v1/tag` and the other routes of kerastag's own interface."""

import base64
import json
import subprocess
import sys

import httpx
import numpy as np
import pytest
from serving.servers import SAMPLE_RATE, create_waveform, encode

from checks import ROOT
from kerastag.dsp import FRONT_ENDS

LONG = encode(create_waveform(27.3), format="FLAC")


def tag(server, content=LONG, **parameters):
    return httpx.post(f"{server.url}/v1/tag", params=parameters, content=content, timeout=60)


def run_command(content, folder, *arguments):
    path = folder / "SITE_20240518_063000.flac"
    path.write_bytes(content)
    command = [sys.executable, "-m", "kerastag", "tag", "--model", "esc10", "--format", "json", *arguments, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    return json.loads(result.stdout)[0]


def test_the_answer_is_that_of_the_command_with_the_model(server, tmp_path):
    flags = ["--top", "3", "--events", "--timeline", "--threshold", "0.05", "--smoothing-seconds", "1"]
    expected = run_command(LONG, tmp_path, *flags)
    files = {"file": ("C:\\field\\SITE_20240518_063000.flac", LONG)}
    parameters = {"top": 3, "events": True, "timeline": 1, "threshold": 0.05, "smoothing_seconds": 1}
    response = httpx.post(f"{server.url}/v1/tag", params=parameters, files=files, timeout=60)
    assert response.status_code == 200
    answer = response.json()
    assert answer["events"]
    assert answer["time"] == "2024-05-18T06:30:00.000"
    model = {"model": "esc10", "version": "1", "sample_rate": SAMPLE_RATE}
    assert answer == {**expected, "file": "SITE_20240518_063000.flac", **model}


def test_a_body_of_bytes_has_no_name_and_options_change_the_tags(server):
    answer = tag(server, top=10).json()
    assert answer["file"] is None
    assert len(answer["tags"]) == 10
    names = [each["name"] for each in tag(server, classes=["Rain", "Dog bark"]).json()["tags"]]
    assert sorted(names) == ["Dog bark", "Rain"]
    pooled = tag(server, top=10, pooling="mean").json()["tags"]
    assert max(each["probability"] for each in pooled) < answer["tags"][0]["probability"]


def test_a_damaged_recording_has_warnings(server):
    answer = tag(server, LONG[: len(LONG) // 2]).json()
    assert "damaged" in answer["warnings"][0]
    assert 1 < answer["duration_seconds"] < 27


def test_every_channel_can_be_chosen(server):
    waveform = create_waveform(2.0)
    stereo = encode(np.stack([waveform, np.zeros_like(waveform)], axis=1))
    left, alone = (tag(server, content, channel="left").json()["tags"] for content in (stereo, encode(waveform)))
    assert left == alone
    response = tag(server, stereo, channel=3)
    assert response.status_code == 422
    assert response.json()["error"]["message"] == (
        "recording: `channel` must be at most the number of channels, 2; received: 3"
    )


def test_an_overview_has_the_extrema_and_the_log_mel_of_the_recording(server):
    waveform = create_waveform(27.3)
    overview = tag(server, encode(waveform, subtype="FLOAT"), overview=700).json()["overview"]
    columns, size = overview["columns"], round(overview["seconds_per_column"] * SAMPLE_RATE)
    assert 350 <= columns <= 700
    assert columns == -(-len(waveform) // size)
    samples = np.pad(waveform, (0, columns * size - len(waveform)), mode="edge").reshape(columns, size)
    np.testing.assert_allclose(np.array(overview["peaks"])[:, 0], samples.min(axis=1), atol=6e-5)
    np.testing.assert_allclose(np.array(overview["peaks"])[:, 1], samples.max(axis=1), atol=6e-5)
    log_mel = overview["log_mel"]
    levels = np.frombuffer(base64.b64decode(log_mel["data"]), np.uint8).reshape(columns, log_mel["mel_bins"])
    front_end = FRONT_ENDS["efficientat"]
    frames = front_end.compute_log_mel(waveform) * 5.0 - 4.5
    decibels = frames * 10 / np.log(10)
    per_column = size // front_end.hop_length
    expected = decibels[: len(decibels) // per_column * per_column].reshape(-1, per_column, 128).mean(axis=1)
    actual = log_mel["low_db"] + levels / 255 * (log_mel["high_db"] - log_mel["low_db"])
    shown = expected[: columns - 1] > log_mel["low_db"]
    assert shown.mean() > 0.5
    np.testing.assert_allclose(actual[: columns - 1][shown[: columns - 1]], expected[: columns - 1][shown], atol=0.2)


@pytest.mark.parametrize("seconds", [0.001, 0.5])
def test_an_overview_of_a_short_recording_has_few_columns(server, seconds):
    overview = tag(server, encode(create_waveform(seconds)), overview=8192).json()["overview"]
    assert overview["columns"] == max(1, round(seconds * 100))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top": 0}, "`top`: input should be greater than or equal to 1; received: '0'"),
        ({"treshold": 0.5}, "`treshold`: extra inputs are not permitted; received: '0.5'"),
        ({"classes": "Cow"}, "`classes` must be"),
        ({"events": True, "threshold": 0.2, "off_threshold": 0.5, "thresholds": "card"}, "`thresholds` must not be"),
        ({"channel": "top"}, "`channel` must be mean, left, right, loudest or a number"),
        ({"overview": 9000}, "`overview`: input should be less than or equal to 8192"),
    ],
)
def test_a_parameter_out_of_range_is_one_line(server, parameters, message):
    response = tag(server, **parameters)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["code"] == "invalid_parameter"
    assert error["message"].startswith(message)
    assert "\n" not in error["message"]


def test_the_models_and_their_classes_are_listed(server):
    (model,) = httpx.get(f"{server.url}/v1/models").json()["models"]
    assert model["name"] == "esc10"
    assert model["streaming"]
    assert len(model["labels"]) == len(model["thresholds"]) == 10
    assert (model["sample_rate"], model["window_seconds"]) == (32_000, 10.0)


def test_health_metrics_and_openapi_are_served(server):
    tag(server)
    for path in ("/healthz", "/readyz", "/openapi.json", "/"):
        assert httpx.get(server.url + path).status_code == 200
    assert httpx.get(f"{server.url}/docs").status_code == 404
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'kerastag_requests_total{route="/v1/tag",status="200"}' in metrics
    assert "process_resident_memory_bytes" in metrics
    assert "/v1/tag" in httpx.get(f"{server.url}/openapi.json").json()["paths"]


def test_the_page_may_load_nothing_from_elsewhere(server):
    headers = httpx.get(f"{server.url}/").headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/../../setup.cfg"])
def test_no_path_of_a_client_leaves_the_page(server, path):
    with httpx.Client(base_url=server.url) as client:
        request = client.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        assert client.send(request).status_code == 404
