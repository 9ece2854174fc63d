"""Hostile HTTP requests: the kinds, what is sent, and the statuses that a server may answer with."""

from __future__ import annotations

import base64
import functools
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile

RATE = 32_000
LOST = 0
"""Stands for a connection that the server closes without an answer."""


@dataclass
class Attempt:
    """What one client sends.

    Attributes:
        parts: Bytes to send, and pauses in seconds between them.
        statuses: Statuses that are right.
        closes: Whether the client closes the connection without reading the answer.
        waits: Whether the client waits for an answer to the first part, as the handshake of a WebSocket requires.
        forbidden: Text that must not be in the answer.
    """

    parts: Sequence[bytes | float]
    statuses: frozenset[int] = field(default_factory=frozenset)
    closes: bool = False
    waits: bool = False
    forbidden: bytes = b"root:"


@dataclass(frozen=True)
class Kind:
    """A kind of hostile requests: its name, the number of tries, and a function that makes one."""

    name: str
    tries: int
    make: Callable[[random.Random], Attempt]
    concurrency: int = 8


def build(path: str, body: bytes = b"", method: str = "POST", length: object = None, **headers: str) -> bytes:
    """Return the bytes of a request; `length` replaces the right length, and `""` leaves it out."""
    length = len(body) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [] if length == "" else [f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def build_chunked(path: str, chunks: Sequence[bytes], end: bytes = b"0\r\n\r\n") -> bytes:
    """Return the bytes of a request with a body in chunks."""
    head = build(path, length="", Transfer_Encoding="chunked")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def encode(format: str = "WAV", seconds: float = 1.0, rate: int = RATE, level: float = 0.1, **options: Any) -> bytes:
    """Return noise as the content of an audio file; a level of 0 is silence."""
    file, count = io.BytesIO(), round(rate * seconds)
    with soundfile.SoundFile(file, "w", rate, 1, format=format, **options) as sound:
        for start in range(0, count, 1 << 20):
            block = np.zeros(min(1 << 20, count - start), np.float32)
            if level:
                block = level * np.random.default_rng(start).standard_normal(len(block)).astype(np.float32)
            sound.write(block)
    return file.getvalue()


def list_kinds() -> list[Kind]:
    """Return all kinds of hostile HTTP requests; see `Kind`."""
    recordings = [encode(name) for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF")]
    claims = _claim_frames(recordings[0])
    undecodable = frozenset({200, 413, 415, 422})
    return [
        Kind(
            "body above the limit, with its length",
            300,
            lambda r: Attempt([build("/v1/tag", bytes(2_100_000))], _of(413)),
        ),
        Kind("length above the limit, and no body", 300, _claim_length),
        Kind(
            "chunks above the limit",
            200,
            lambda r: Attempt([build_chunked("/v1/tag", [bytes(100_000)] * 22)], _of(413)),
        ),
        Kind("body that ends before its length", 400, lambda r: _cut_body(r, recordings)),
        Kind("body longer than its length", 200, lambda r: _lengthen_body(r, recordings)),
        Kind("lengths that are no number, or two", 300, _break_length),
        Kind("chunks with wrong sizes", 300, _break_chunks),
        Kind("empty body", 200, _send_nothing),
        Kind("random bytes as a recording", 700, _send_random_bytes),
        Kind("recording that is cut", 500, lambda r: _cut_recording(r, recordings)),
        Kind(
            "recording with changed bytes",
            1_000,
            lambda r: Attempt([build("/v1/tag", _change(r, r.choice(recordings)))], undecodable),
        ),
        Kind(
            "hours of silence in few bytes",
            60,
            lambda r: Attempt([build("/v1/tag", r.choice(_create_bombs()))], _of(413)),
            2,
        ),
        Kind("header that claims gigabytes", 60, lambda r: Attempt([build("/v1/tag", claims)], _of(200, 422))),
        Kind("wrong parameters", 700, lambda r: _break_parameters(r, recordings[0])),
        Kind("wrong overview, many classes", 100, lambda r: _break_lists(r, recordings[0])),
        Kind("broken forms", 600, lambda r: _break_form(r, recordings[0])),
        Kind("wrong JSON, TensorFlow Serving", 700, _break_predict),
        Kind("wrong JSON and tensors, Open Inference Protocol", 700, _break_infer),
        Kind("wrong JSON, Hugging Face", 400, _break_hugging_face),
        Kind("paths out of the page", 500, _escape_path),
        Kind("unknown paths and methods", 300, _use_wrong_method),
        Kind("huge, many and broken headers", 400, _break_headers),
        Kind("other sites", 200, _come_from_elsewhere),
        Kind("not HTTP at all", 200, _speak_otherwise),
        Kind(
            "client leaves before the answer",
            300,
            lambda r: Attempt([build("/v1/tag", r.choice(recordings))], closes=True),
        ),
        Kind("slow headers", 60, _send_slow_headers, 60),
        Kind("slow bodies", 60, lambda r: _send_slow_body(r, recordings[0]), 60),
    ]


def _of(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


@functools.cache
def _create_bombs() -> list[bytes]:
    """Return recordings of silence that are longer than the limit, in few bytes."""
    return [encode("FLAC", 2 * 3_600, 8_000, 0), encode("OGG", 660, 8_000, 0), encode("MP3", 660, 8_000, 0)]


def _claim_frames(wav: bytes) -> bytes:
    """Return a WAV file whose header claims four gigabytes of samples."""
    return wav[:4] + b"\xf0\xff\xff\xff" + wav[8:40] + b"\xc0\xff\xff\xff" + wav[44:]


def _send_bomb(r: random.Random) -> Attempt:
    return Attempt([build("/v1/tag", r.choice(_create_bombs()))], _of(413))


def _claim_length(r: random.Random) -> Attempt:
    return Attempt([build("/v1/tag", length=r.choice([2_000_001, 10**12, 2**63, 10**30]))], _of(400, 413))


def _send_nothing(r: random.Random) -> Attempt:
    return Attempt([build(r.choice(["/v1/tag", "/models/m"]))], _of(400, 415, 422))


def _send_random_bytes(r: random.Random) -> Attempt:
    return Attempt([build("/v1/tag", r.randbytes(r.randrange(1, 60_000)))], _of(415, 422))


def _speak_otherwise(r: random.Random) -> Attempt:
    return Attempt([r.randbytes(r.randrange(1, 4_000)) + b"\r\n\r\n"], _of(400, LOST))


def _cut_body(r: random.Random, recordings: list[bytes]) -> Attempt:
    request = build("/v1/tag", r.choice(recordings))
    return Attempt([request[: -r.randrange(1, 5_000)]], closes=True)


def _lengthen_body(r: random.Random, recordings: list[bytes]) -> Attempt:
    body = r.choice(recordings)
    return Attempt([build("/v1/tag", body + r.randbytes(500), length=len(body))], _of(200, 400))


def _break_length(r: random.Random) -> Attempt:
    length = r.choice(
        ["-1", "abc", "1e3", "0x10", "1, 2", "5\r\nContent-Length: 6", "+5", "1 2", "\u0665", "9" * 5_000]
    )
    if r.random() < 0.3:
        return Attempt([build("/v1/tag", b"0\r\n\r\nGET /", length=5, Transfer_Encoding="chunked")], _of(400, 415, 422))
    return Attempt([build("/v1/tag", b"abcde", length=length)], _of(400, 413, 415, 422, 431, LOST))


def _break_chunks(r: random.Random) -> Attempt:
    chunk = r.choice(
        [b"zz\r\nabc\r\n", b"-5\r\nabc\r\n", b"5\r\nabc\r\n", b"f" * 40 + b"\r\nabc\r\n", b"3;" + b"x" * 90_000]
    )
    return Attempt([build_chunked("/v1/tag", [b"abc"], chunk + b"0\r\n\r\n")], _of(400, 408, 413, 415, 422, LOST))


def _cut_recording(r: random.Random, recordings: list[bytes]) -> Attempt:
    body = r.choice(recordings)
    return Attempt([build("/v1/tag", body[: r.randrange(1, len(body))])], _of(200, 415, 422))


def _change(r: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(r.randrange(1, 9)):
        changed[r.randrange(len(changed) if r.random() < 0.5 else min(200, len(changed)))] = r.randrange(256)
    return bytes(changed)


_VALUES = (
    "",
    "x",
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "2",
    "99999999999999999999",
    "%00",
    "%ff",
    "1;2",
    "true",
    "[]",
    "{}",
)
_PARAMETERS = (
    *("top", "threshold", "off_threshold", "smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds"),
    *("channel", "pooling", "model", "thresholds", "classes", "events", "timeline", "overview", "unknown"),
)


def _break_parameters(r: random.Random, recording: bytes) -> Attempt:
    query = "&".join(f"{r.choice(_PARAMETERS)}={r.choice(_VALUES)}" for _ in range(r.randrange(1, 4)))
    return Attempt([build(f"/v1/tag?{query}", recording)], _of(200, 400, 404, 422))


def _break_lists(r: random.Random, recording: bytes) -> Attempt:
    query = r.choice(
        ["overview=8193", "overview=-1", "&".join(["classes=Rain"] * 3_000), "classes=" + "x" * 30_000, "top=9&top=x"]
    )
    return Attempt([build(f"/v1/tag?{query}", recording)], _of(200, 400, 414, 422, 431))


def _break_form(r: random.Random, recording: bytes) -> Attempt:
    disposition = b'Content-Disposition: form-data; name="file"; filename="../../etc/passwd"\r\n\r\n'
    part = b"--b\r\n" + disposition + recording
    body = r.choice(
        [
            *(b"", b"--b--\r\n", b"--b\r\n\r\n\r\n--b--\r\n", part, part[:-100] + b"\r\n--c--\r\n"),
            b"--b\r\n" + disposition.replace(b"file", b"x", 1) + b"abc\r\n--b--\r\n",
            *((part + b"\r\n") * 30 + b"--b--\r\n" if len(part) < 60_000 else part, b"--b\r\n" + b"A: b\r\n" * 5_000),
            *(
                b"--b\r\n" + b"x" * 100_000,
                b"--b\r\nContent-Disposition: \xff\xfe; name\r\n\r\nx\r\n--b--\r\n",
                r.randbytes(900),
            ),
        ]
    )
    kind = r.choice(
        ["multipart/form-data; boundary=b"] * 8
        + ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 9_000]
    )
    return Attempt([build("/v1/tag", body, Content_Type=kind)], _of(400, 413, 415, 422, 431))


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
    return Attempt([build(path, _break_json(r, keys), Content_Type="application/json")], _of(400, 404, 413, 422))


def _break_infer(r: random.Random) -> Attempt:
    if r.random() < 0.4:
        size = r.choice([-1, 0, 3, 5, 10**12, "x"])
        tensor = {"name": "waveform", "datatype": "FP32", "shape": [1, r.choice([2, -1, 10**12, "x"])]}
        text = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
        header = r.choice([len(text), 0, -1, 10**12, len(text) + 99, "x"])
        request = build("/v2/models/m/infer", text + bytes(7), Inference_Header_Content_Length=str(header))
        return Attempt([request], _of(400, 413, 422))
    tensor = {
        "name": r.choice(["waveform", "x", None, 5]),
        "datatype": r.choice(["FP32", "BYTES", "INT64", "", None, "FP99"]),
        "shape": r.choice([[1, 4], [-1, 4], [4], [0], [], None, "x", [10**9, 10**9], [1, 1.5]]),
        "data": r.choice([[0.0] * 3, "x", None, [[0.0]], [None] * 4, ["a"] * 4, [1e400] * 4]),
    }
    body = json.dumps({"inputs": r.choice([[tensor], tensor, [tensor, tensor], None, []])}).encode()
    return Attempt(
        [build("/v2/models/m/infer", body if r.random() < 0.8 else _break_json(r, ["inputs", "outputs", "id"]))],
        _of(400, 404, 413, 422),
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
        _of(400, 404, 413, 415, 422),
    )


def _escape_path(r: random.Random) -> Attempt:
    up = r.choice(
        ["../", "..%2f", "%2e%2e/", "%252e%252e/", "..\\", "....//", "%c0%ae%c0%ae/", "..;/", "./"]
    ) * r.randrange(1, 12)
    base = r.choice(["/page/", "/", "/models/", "/v1/models/", "/v2/models/", "//", "/page/%00"])
    target = r.choice(
        ["etc/passwd", "etc/passwd%00.js", "proc/self/environ", "serving/app.py", "config.py", "__init__.py"]
    )
    return Attempt([build(base + up + target, method="GET")], _of(400, 403, 404, 405))


def _use_wrong_method(r: random.Random) -> Attempt:
    path = r.choice(
        ["/v1/tag", "/v1/models", "/healthz", "/metrics", "/v1/stream", "/nothing", "/docs", "/%ff", "/" + "x" * 60_000]
    )
    method = r.choice(["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "FOO", "OPTIONS", "get"])
    return Attempt([build(path, method=method)], _of(400, 403, 404, 405, 414, 426, 431))


def _break_headers(r: random.Random) -> Attempt:
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    extra = r.choice(
        [
            *(
                b"X: " + b"x" * 1_000_000 + b"\r\n",
                b"".join(b"X%d: y\r\n" % i for i in range(20_000)),
                b"X: a\0b\r\n",
                b": x\r\n",
            ),
            *(
                b"X\xff: y\r\n",
                b" X: y\r\n",
                b"X : y\r\n",
                b"no colon\r\n",
                b"X: \xff\xfe\r\n",
                b"Host: elsewhere\r\n",
                b"Expect: 100-continue\r\n",
            ),
            *(
                b"Authorization: Bearer " + b"\xff" * 100 + b"\r\n",
                b"Authorization: Basic x\r\n",
                b"Upgrade: websocket\r\n",
                b"Upgrade: h2c\r\n",
            ),
            *(
                b"Range: bytes=0-9999999999\r\n",
                b"X: y\n\n",
                b"Accept-Encoding: x;q=9\r\n",
                b"Cookie: " + b"a=b;" * 5_000 + b"\r\n",
            ),
        ]
    )
    return Attempt([head + extra + b"\r\n"], _of(200, 400, 403, 421, 426, 431, LOST))


def _come_from_elsewhere(r: random.Random) -> Attempt:
    headers = r.choice(
        [b"Host: attacker.example\r\n", b"Host: localhost.attacker.example\r\n", b"Host: \r\n", b"Host: a@b:c\r\n", b""]
        + [b"Host: 127.0.0.1\r\nOrigin: http://attacker.example\r\nSec-Fetch-Site: cross-site\r\n"] * 3
    )
    return Attempt(
        [b"POST /v1/tag HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n" + headers + b"\r\nx"],
        _of(400, 403, 421),
    )


def _send_slow_headers(r: random.Random) -> Attempt:
    head = build("/healthz", method="GET")[:-2]
    return Attempt(_iterate_slowly(head + b"X: " + b"x" * 200), _of(408, LOST))


def _send_slow_body(r: random.Random, recording: bytes) -> Attempt:
    request = build("/v1/tag", recording)
    start = request.index(b"\r\n\r\n") + 4
    return Attempt([request[:start], *_iterate_slowly(request[start : start + 200])], _of(408, LOST))


def _iterate_slowly(content: bytes) -> list[bytes | float]:
    return [part for i in range(len(content)) for part in (content[i : i + 1], 0.1)]


def iterate_attempts(kind: Kind, tries: int) -> Iterator[Attempt]:
    """Yield attempts of a kind, the same each time."""
    r = random.Random(kind.name)
    for _ in range(tries):
        yield kind.make(r)
