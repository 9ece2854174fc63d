"""Hostile JSON and tensors, in the protocols of TensorFlow Serving, Triton and Hugging Face."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Sequence

from _attempts import Attempt, Kind, allow, build


def list_json_kinds() -> list[Kind]:
    """Return all kinds of hostile JSON."""
    return [
        Kind("wrong JSON, TensorFlow Serving", 700, _break_predict),
        Kind("wrong JSON and tensors, Open Inference Protocol", 700, _break_infer),
        Kind("wrong JSON, Hugging Face", 400, _break_hugging_face),
    ]


_JSON = (
    *(None, True, 0, -1, 1e308, "", "x", [], {}, [[]], [[[]]], [None], {"b64": "!"}, {"b64": 5}, {"b64": ""}, [1, [2]]),
    *(
        [["a"]],
        [[1, 2], [3]],
        {"waveform": None},
        {"x": [1]},
        [{"waveform": "x"}],
        [{"b64": "AAAA"}],
        [[0.1] * 100] * 3,
    ),
)
_TEXTS = (
    b"",
    b"{",
    b"[" * 50_000,
    b'{"instances": [NaN]}',
    b'{"a": 1e999999}',
    b"\xff\xfe{}",
    b'{"inputs": ' + b"9" * 5_000 + b"}",
)


def _break_json(r: random.Random, keys: Sequence[str]) -> bytes:
    if r.random() < 0.2:
        return r.choice(_TEXTS)
    return json.dumps({r.choice(keys): r.choice(_JSON) for _ in range(r.randrange(1, 4))}).encode()


def _break_predict(r: random.Random) -> Attempt:
    keys = ("instances", "inputs", "signature_name", "x")
    path = r.choice(
        ["/v1/models/m:predict"] * 6
        + ["/v1/models/m/versions/x:predict", "/v1/models/n:predict", "/v1/models/m/versions/9:predict"]
    )
    return Attempt([build(path, _break_json(r, keys), Content_Type="application/json")], allow(400, 404, 413, 422))


def _break_infer(r: random.Random) -> Attempt:
    if r.random() < 0.4:
        size = r.choice([-1, 0, 3, 5, 10**12, "x"])
        tensor = {"name": "waveform", "datatype": "FP32", "shape": [1, r.choice([2, -1, 10**12, "x"])]}
        text = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
        header = r.choice([len(text), 0, -1, 10**12, len(text) + 99, "x"])
        request = build("/v2/models/m/infer", text + bytes(7), Inference_Header_Content_Length=str(header))
        return Attempt([request], allow(400, 413, 422))
    tensor = {
        "name": r.choice(["waveform", "x", None, 5]),
        "datatype": r.choice(["FP32", "BYTES", "INT64", "", None, "FP99"]),
        "shape": r.choice([[1, 4], [-1, 4], [4], [0], [], None, "x", [10**9, 10**9], [1, 1.5]]),
        "data": r.choice([[0.0] * 3, "x", None, [[0.0]], [None] * 4, ["a"] * 4, [1e400] * 4]),
    }
    body = json.dumps({"inputs": r.choice([[tensor], tensor, [tensor, tensor], None, []])}).encode()
    return Attempt(
        [build("/v2/models/m/infer", body if r.random() < 0.8 else _break_json(r, ["inputs", "outputs", "id"]))],
        allow(400, 404, 413, 422),
    )


def _break_hugging_face(r: random.Random) -> Attempt:
    text = base64.b64encode(r.randbytes(30)).decode()
    values = {
        "inputs": r.choice([text, "!", 5, None, [], {}]),
        "parameters": r.choice([{"top_k": each} for each in (0, -1, "x", 1e9)] + [5, None]),
    }
    body = json.dumps(values).encode() if r.random() < 0.6 else _break_json(r, ["inputs", "parameters"])
    return Attempt(
        [build(r.choice(["/models/m", "/models/n"]), body, Content_Type="application/json")],
        allow(400, 404, 413, 415, 422),
    )
