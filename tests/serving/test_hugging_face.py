"""Tests of the protocol of Hugging Face for audio classification."""

import base64

import httpx
import pytest
from serving.servers import create_waveform, encode

from kerastag import Tagger

CONTENT = encode(create_waveform(12.0), format="OGG", subtype="VORBIS")
BASE64 = base64.b64encode(CONTENT).decode()


def post(server, path="/models/esc10", **body):
    return httpx.post(server.url + path, timeout=60, **body)


def test_bytes_and_base64_are_classified(server, tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(CONTENT)
    tags = Tagger.load("esc10").tag(path, top=5)
    expected = [{"label": tag.name, "score": pytest.approx(tag.probability, abs=1e-6)} for tag in tags]
    assert post(server, content=CONTENT).json() == expected
    assert post(server, content=CONTENT, headers={"Content-Type": "audio/ogg"}).json() == expected
    assert post(server, "/pipeline/audio-classification/esc10", content=CONTENT).json() == expected
    assert post(server, json={"inputs": BASE64}).json() == expected
    assert post(server, json={"inputs": BASE64, "parameters": {"top_k": 2}}).json() == expected[:2]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"content": b""}, 422, "the body must be a recording; received: no bytes"),
        ({"content": b"hello"}, 415, "recording: must be audio"),
        ({"json": {}}, 400, "a recording must be base64"),
        ({"json": {"inputs": "?"}}, 400, "a recording must be base64"),
        ({"json": {"inputs": BASE64, "parameters": {"top_k": 0}}}, 422, "`top_k` must be an integer of at least 1"),
        ({"json": {"inputs": BASE64, "parameters": {"top_k": "2"}}}, 422, "`top_k` must be an integer of at least 1"),
        ({"json": []}, 400, "the body must be a JSON object"),
    ],
)
def test_a_fault_is_an_error_in_the_form_of_the_protocol(server, body, status, message):
    response = post(server, **body)
    assert response.status_code == status
    assert response.json()["error"].startswith(message)


def test_an_unknown_model_is_not_found(server):
    assert post(server, "/models/birds", content=CONTENT).status_code == 404
