"""Tests of the REST protocol of TensorFlow Serving."""

import base64

import httpx
import numpy as np
import pytest
from serving.servers import SAMPLE_RATE, create_waveform, encode, run_server

from kerastag import Tagger
from kerastag.edge.runtime import LiteRTModel
from kerastag.tagger import fetch_model

CLIPS = np.stack([create_waveform(10.0, seed=seed) for seed in (1, 2)]).round(3)


@pytest.fixture(scope="module")
def expected():
    return LiteRTModel(fetch_model("esc10"), 1)(CLIPS)


def predict(server, body, path="/v1/models/esc10"):
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    return httpx.post(f"{server.url}{path}:predict", timeout=60, **content)


def test_the_row_format_has_one_prediction_per_instance(server, expected):
    for instances in (CLIPS.tolist(), [{"waveform": clip} for clip in CLIPS.tolist()]):
        response = predict(server, {"instances": instances})
        assert response.status_code == 200
        predictions = response.json()["predictions"]
        assert len(predictions) == 2
        for row, prediction in enumerate(predictions):
            assert prediction.keys() == expected.keys()
            for name, values in prediction.items():
                np.testing.assert_array_equal(np.float32(values), expected[name][row])


@pytest.mark.parametrize("signature", ["serving_default", "waveform", None])
def test_the_column_format_has_one_tensor_per_output(server, expected, signature):
    body = {"inputs": {"waveform": CLIPS[:1].tolist()}} | ({"signature_name": signature} if signature else {})
    outputs = predict(server, body).json()["outputs"]
    assert outputs.keys() == expected.keys()
    np.testing.assert_array_equal(np.float32(outputs["clipwise"]), expected["clipwise"][:1])


def test_recordings_in_base64_are_decoded_and_padded(server):
    waveform = np.round(create_waveform(3.0) * 32_768) / 32_768  # what a file of 16 bits holds
    content = base64.b64encode(encode(waveform, format="FLAC")).decode()
    padded = np.pad(waveform, (0, 7 * SAMPLE_RATE)).astype(np.float32)
    expected = Tagger.load("esc10").predict(padded, sample_rate=SAMPLE_RATE)
    for body in ({"instances": [{"b64": content}]}, {"instances": [{"wav_bytes": {"b64": content}}]}):
        predictions = predict(server, {**body, "signature_name": "wav_bytes"}).json()["predictions"]
        np.testing.assert_allclose(predictions[0]["clipwise"], expected, atol=1e-3)
    outputs = predict(server, {"inputs": {"b64": content}, "signature_name": "wav_bytes"}).json()["outputs"]
    np.testing.assert_allclose(outputs["clipwise"][0], expected, atol=1e-3)


def test_status_and_metadata_describe_the_model(server):
    version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("", "/versions/1", "/labels/latest"):
        status = httpx.get(f"{server.url}/v1/models/esc10{path}").json()
        assert status == {"model_version_status": [version]}
        metadata = httpx.get(f"{server.url}/v1/models/esc10{path}/metadata").json()
        assert metadata["model_spec"] == {"name": "esc10", "signature_name": "", "version": "1"}
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"]["waveform"]["dtype"] == "DT_FLOAT"
        assert [each["size"] for each in signature["inputs"]["waveform"]["tensor_shape"]["dim"]] == ["-1", "320000"]
        assert [each["size"] for each in signature["outputs"]["clipwise"]["tensor_shape"]["dim"]] == ["-1", "10"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body must be JSON"),
        (b"[" * 100_000, 400, "the body must be JSON"),
        (b"[]", 400, "the body must be a JSON object; received: list"),
        ({}, 400, "the body must have either `instances` or `inputs`"),
        ({"instances": []}, 400, "`instances` must be a list with at least one item"),
        ({"instances": [[0.0] * 5]}, 400, "`waveform` must be numbers of shape (any, 320000); received: shape (1, 5)"),
        ({"instances": [[0.0], [0.0, 1.0]]}, 400, "`waveform` must be numbers of shape"),
        ({"instances": [["a"]]}, 400, "`waveform` must be numbers of shape"),
        ({"instances": [{"sound": [0.0]}]}, 400, "the input must be `waveform`; received: sound"),
        ({"instances": [[0.0]], "signature_name": "classify"}, 400, "`signature_name` must be one of"),
        ({"instances": [[0.0]], "signature_name": ["classify"]}, 400, "`signature_name` must be one of"),
        ({"instances": [{"b64": "%"}], "signature_name": "wav_bytes"}, 400, "a recording must be base64"),
        ({"instances": [{"b64": "aGFsbG8="}], "signature_name": "wav_bytes"}, 415, "recording: must be audio"),
    ],
)
def test_a_fault_is_an_error_in_the_form_of_the_protocol(server, body, status, message):
    response = predict(server, body)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert response.json()["error"].startswith(message)


def test_samples_that_are_not_finite_are_an_error(server):
    row = "[" + ",".join(["NaN"] + ["0"] * 319_999) + "]"
    response = predict(server, f'{{"instances": [{row}]}}'.encode())
    assert (response.status_code, response.json()["error"]) == (
        400,
        "`waveform` must be finite numbers; received: others",
    )


def test_a_recording_longer_than_the_window_is_an_error(server):
    content = base64.b64encode(encode(create_waveform(10.5))).decode()
    response = predict(server, {"instances": [{"b64": content}], "signature_name": "wav_bytes"})
    assert response.status_code == 422
    assert response.json()["error"] == "recording: must be at most 10 s long, the window of esc10; it is longer"


@pytest.mark.parametrize(
    "path",
    ["/v1/models/birds", "/v1/models/esc10/versions/2", "/v1/models/esc10/versions/x", "/v1/models/esc10/labels/a"],
)
def test_an_unknown_model_or_version_is_not_found(server, path):
    for response in (
        httpx.get(server.url + path),
        httpx.get(f"{server.url}{path}/metadata"),
        predict(server, {}, path),
    ):
        assert response.status_code == 404
        assert response.json().keys() == {"error"}


def test_versions_and_labels_select_a_model():
    arguments = ("--model", "sounds:1,stable=esc10", "--model", "sounds:3,canary=esc10")
    with run_server(*arguments) as server:
        statuses = httpx.get(f"{server.url}/v1/models/sounds").json()["model_version_status"]
        assert [each["version"] for each in statuses] == ["3", "1"]
        for label, version in (("stable", "1"), ("canary", "3"), ("latest", "3")):
            metadata = httpx.get(f"{server.url}/v1/models/sounds/labels/{label}/metadata").json()
            assert metadata["model_spec"]["version"] == version
