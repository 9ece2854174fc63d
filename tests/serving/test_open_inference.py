"""Tests of the Open Inference Protocol, version 2."""

import json

import httpx
import numpy as np
import pytest
from serving.servers import create_waveform

from kerastag.edge.runtime import LiteRTModel
from kerastag.tagger import fetch_model

CLIPS = np.stack([create_waveform(10.0, seed=seed) for seed in (1, 2)]).round(3)
TENSOR = {"name": "waveform", "shape": [2, 320_000], "datatype": "FP32"}


@pytest.fixture(scope="module")
def expected():
    return LiteRTModel(fetch_model("esc10"), 1)(CLIPS)


def infer(server, values, tensors=b"", path="/v2/models/esc10", header=None):
    content = json.dumps(values).encode() if isinstance(values, dict) else values
    headers = {"Inference-Header-Content-Length": str(len(content)) if header is None else header} if tensors else {}
    return httpx.post(f"{server.url}{path}/infer", content=content + tensors, headers=headers, timeout=60)


def parse_binary(response):
    """Return the JSON of an answer, and its tensors by name."""
    size = int(response.headers["Inference-Header-Content-Length"])
    values, position, tensors = json.loads(response.content[:size]), size, {}
    for output in values["outputs"]:
        length = output["parameters"]["binary_data_size"]
        tensors[output["name"]] = np.frombuffer(response.content[position : position + length], "<f4")
        tensors[output["name"]] = tensors[output["name"]].reshape(output["shape"])
        position += length
    assert position == len(response.content)
    return values, tensors


def test_json_in_and_out(server, expected):
    for data in (CLIPS.ravel().tolist(), CLIPS.tolist()):
        answer = infer(server, {"id": "7", "inputs": [{**TENSOR, "data": data}]}).json()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("esc10", "1", "7")
        assert [output["name"] for output in answer["outputs"]] == list(expected)
        for output in answer["outputs"]:
            values = np.float32(output["data"]).reshape(output["shape"])
            np.testing.assert_array_equal(values, expected[output["name"]])


def test_binary_in_and_out(server, expected):
    tensor = {**TENSOR, "parameters": {"binary_data_size": CLIPS.nbytes}}
    body = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    _, tensors = parse_binary(infer(server, body, CLIPS.astype("<f4").tobytes(), "/v2/models/esc10/versions/1"))
    assert tensors.keys() == expected.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(values, expected[name])


def test_outputs_can_be_chosen_and_mixed(server, expected):
    tensor = {**TENSOR, "parameters": {"binary_data_size": CLIPS.nbytes}}
    outputs = [{"name": "clipwise", "parameters": {"binary_data": True}}]
    _, tensors = parse_binary(infer(server, {"inputs": [tensor], "outputs": outputs}, CLIPS.astype("<f4").tobytes()))
    assert list(tensors) == ["clipwise"]
    answer = infer(
        server, {"inputs": [tensor], "outputs": [{"name": "clipwise"}]}, CLIPS.astype("<f4").tobytes()
    ).json()
    np.testing.assert_array_equal(np.float32(answer["outputs"][0]["data"]), expected["clipwise"].ravel())


def test_health_and_metadata_describe_the_server_and_the_model(server):
    def get(path):
        response = httpx.get(f"{server.url}/v2{path}")
        assert response.status_code == 200
        return response.json()

    assert get("")["extensions"] == ["binary_tensor_data"]
    assert get("/health/live") == {"live": True}
    assert get("/health/ready") == {"ready": True}
    assert get("/models/esc10/ready") == get("/models/esc10/versions/1/ready") == {"name": "esc10", "ready": True}
    metadata = get("/models/esc10")
    assert metadata == get("/models/esc10/versions/1")
    assert metadata["inputs"] == [{"name": "waveform", "datatype": "FP32", "shape": [-1, 320_000]}]
    shapes = {output["name"]: output["shape"] for output in metadata["outputs"]}
    assert shapes == {"clipwise": [-1, 10], "framewise": [-1, -1, 10], "embedding": [-1, -1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": None}, "`inputs` must be a list of one tensor"),
        ({"inputs": [{**TENSOR, "name": "sound"}]}, "the input must be `waveform` of FP32; received: sound of FP32"),
        ({"inputs": [{**TENSOR, "datatype": "INT8"}]}, "the input must be `waveform` of FP32"),
        ({"inputs": [{**TENSOR, "shape": [2, -1]}]}, "`shape` must be a list of up to four sizes"),
        ({"inputs": [{**TENSOR, "shape": 3}]}, "`shape` must be a list of up to four sizes"),
        ({"inputs": [{**TENSOR, "shape": [2**30, 2**30], "data": []}]}, "`data` must be as many numbers as `shape`"),
        ({"inputs": [{**TENSOR, "data": ["a"]}]}, "`data` must be numbers"),
        ({"inputs": [TENSOR]}, "`data` must be as many numbers as `shape`"),
        ({"inputs": [{**TENSOR, "shape": [1, 3], "data": [0, 0, 0]}]}, "`waveform` must be numbers of shape"),
        ({"inputs": [{**TENSOR, "shape": [0, 320_000], "data": []}]}, "`waveform` must be 1 to 256 clips"),
        ({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 8}}]}, "`binary_data_size` must be 0"),
        (
            {"inputs": [{**TENSOR, "shape": [1, 320_000], "data": [0] * 320_000}], "outputs": [{"name": "x"}]},
            "the name of",
        ),
    ],
)
def test_a_fault_is_an_error_in_the_form_of_the_protocol(server, change, message):
    response = infer(server, change)
    assert response.status_code == 400
    assert response.json()["error"].startswith(message)


@pytest.mark.parametrize("header", ["-1", "x", "99999999", "9" * 50])
def test_a_wrong_length_of_the_json_is_an_error(server, header):
    response = infer(server, {"inputs": []}, b"1234", header=header)
    assert response.status_code == 400
    assert response.json()["error"].startswith("`Inference-Header-Content-Length` must be at most")


@pytest.mark.parametrize("path", ["/v2/models/birds", "/v2/models/esc10/versions/7", "/v2/models/esc10/versions/1.0"])
def test_an_unknown_model_or_version_is_not_found(server, path):
    for response in (
        httpx.get(server.url + path),
        httpx.get(f"{server.url}{path}/ready"),
        infer(server, {}, path=path),
    ):
        assert response.status_code == 404
        assert response.json().keys() == {"error"}
