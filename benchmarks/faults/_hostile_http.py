"""Hostile HTTP requests: bodies, lengths, recordings, parameters, forms, paths, headers, and slow clients."""

from __future__ import annotations

import functools
import random

from _attempts import LOST, Attempt, Kind, allow, build, build_chunked, encode


def list_kinds() -> list[Kind]:
    """Return all kinds of hostile HTTP requests; see `Kind`."""
    recordings = [encode(name) for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF")]
    claims = _claim_frames(recordings[0])
    undecodable = frozenset({200, 413, 415, 422})
    return [
        Kind(
            "body above the limit, with its length",
            300,
            lambda r: Attempt([build("/v1/tag", bytes(2_100_000))], allow(413)),
        ),
        Kind("length above the limit, and no body", 300, _claim_length),
        Kind(
            "chunks above the limit",
            200,
            lambda r: Attempt([build_chunked("/v1/tag", [bytes(100_000)] * 22)], allow(413)),
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
            lambda r: Attempt([build("/v1/tag", r.choice(_create_bombs()))], allow(413)),
            2,
        ),
        Kind("header that claims gigabytes", 60, lambda r: Attempt([build("/v1/tag", claims)], allow(200, 422))),
        Kind("wrong parameters", 700, lambda r: _break_parameters(r, recordings[0])),
        Kind("wrong overview, many classes", 100, lambda r: _break_lists(r, recordings[0])),
        Kind("broken forms", 600, lambda r: _break_form(r, recordings[0])),
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


@functools.cache
def _create_bombs() -> list[bytes]:
    """Return recordings of silence that are longer than the limit, in few bytes."""
    return [encode("FLAC", 2 * 3_600, 8_000, 0), encode("OGG", 660, 8_000, 0), encode("MP3", 660, 8_000, 0)]


def _claim_frames(wav: bytes) -> bytes:
    """Return a WAV file whose header claims four gigabytes of samples."""
    return wav[:4] + b"\xf0\xff\xff\xff" + wav[8:40] + b"\xc0\xff\xff\xff" + wav[44:]


def _send_bomb(r: random.Random) -> Attempt:
    return Attempt([build("/v1/tag", r.choice(_create_bombs()))], allow(413))


def _claim_length(r: random.Random) -> Attempt:
    return Attempt([build("/v1/tag", length=r.choice([2_000_001, 10**12, 2**63, 10**30]))], allow(400, 413))


def _send_nothing(r: random.Random) -> Attempt:
    return Attempt([build(r.choice(["/v1/tag", "/models/m"]))], allow(400, 415, 422))


def _send_random_bytes(r: random.Random) -> Attempt:
    return Attempt([build("/v1/tag", r.randbytes(r.randrange(1, 60_000)))], allow(415, 422))


def _speak_otherwise(r: random.Random) -> Attempt:
    return Attempt([r.randbytes(r.randrange(1, 4_000)) + b"\r\n\r\n"], allow(400, LOST))


def _cut_body(r: random.Random, recordings: list[bytes]) -> Attempt:
    request = build("/v1/tag", r.choice(recordings))
    return Attempt([request[: -r.randrange(1, 5_000)]], closes=True)


def _lengthen_body(r: random.Random, recordings: list[bytes]) -> Attempt:
    body = r.choice(recordings)
    return Attempt([build("/v1/tag", body + r.randbytes(500), length=len(body))], allow(200, 400))


def _break_length(r: random.Random) -> Attempt:
    length = r.choice(
        ["-1", "abc", "1e3", "0x10", "1, 2", "5\r\nContent-Length: 6", "+5", "1 2", "\u0665", "9" * 5_000]
    )
    if r.random() < 0.3:
        return Attempt(
            [build("/v1/tag", b"0\r\n\r\nGET /", length=5, Transfer_Encoding="chunked")], allow(400, 415, 422)
        )
    return Attempt([build("/v1/tag", b"abcde", length=length)], allow(400, 413, 415, 422, 431, LOST))


def _break_chunks(r: random.Random) -> Attempt:
    chunk = r.choice(
        [b"zz\r\nabc\r\n", b"-5\r\nabc\r\n", b"5\r\nabc\r\n", b"f" * 40 + b"\r\nabc\r\n", b"3;" + b"x" * 90_000]
    )
    return Attempt([build_chunked("/v1/tag", [b"abc"], chunk + b"0\r\n\r\n")], allow(400, 408, 413, 415, 422, LOST))


def _cut_recording(r: random.Random, recordings: list[bytes]) -> Attempt:
    body = r.choice(recordings)
    return Attempt([build("/v1/tag", body[: r.randrange(1, len(body))])], allow(200, 415, 422))


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
    return Attempt([build(f"/v1/tag?{query}", recording)], allow(200, 400, 404, 422))


def _break_lists(r: random.Random, recording: bytes) -> Attempt:
    query = r.choice(
        ["overview=8193", "overview=-1", "&".join(["classes=Rain"] * 3_000), "classes=" + "x" * 30_000, "top=9&top=x"]
    )
    return Attempt([build(f"/v1/tag?{query}", recording)], allow(200, 400, 414, 422, 431))


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
    return Attempt([build("/v1/tag", body, Content_Type=kind)], allow(400, 413, 415, 422, 431))


def _escape_path(r: random.Random) -> Attempt:
    up = r.choice(
        ["../", "..%2f", "%2e%2e/", "%252e%252e/", "..\\", "....//", "%c0%ae%c0%ae/", "..;/", "./"]
    ) * r.randrange(1, 12)
    base = r.choice(["/page/", "/", "/models/", "/v1/models/", "/v2/models/", "//", "/page/%00"])
    target = r.choice(
        ["etc/passwd", "etc/passwd%00.js", "proc/self/environ", "serving/app.py", "config.py", "__init__.py"]
    )
    return Attempt([build(base + up + target, method="GET")], allow(400, 403, 404, 405))


def _use_wrong_method(r: random.Random) -> Attempt:
    path = r.choice(
        ["/v1/tag", "/v1/models", "/healthz", "/metrics", "/v1/stream", "/nothing", "/docs", "/%ff", "/" + "x" * 60_000]
    )
    method = r.choice(["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "FOO", "OPTIONS", "get"])
    return Attempt([build(path, method=method)], allow(400, 403, 404, 405, 414, 426, 431))


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
    return Attempt([head + extra + b"\r\n"], allow(200, 400, 403, 421, 426, 431, LOST))


def _come_from_elsewhere(r: random.Random) -> Attempt:
    headers = r.choice(
        [b"Host: attacker.example\r\n", b"Host: localhost.attacker.example\r\n", b"Host: \r\n", b"Host: a@b:c\r\n", b""]
        + [b"Host: 127.0.0.1\r\nOrigin: http://attacker.example\r\nSec-Fetch-Site: cross-site\r\n"] * 3
    )
    return Attempt(
        [b"POST /v1/tag HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n" + headers + b"\r\nx"],
        allow(400, 403, 421),
    )


def _send_slow_headers(r: random.Random) -> Attempt:
    head = build("/healthz", method="GET")[:-2]
    return Attempt(_iterate_slowly(head + b"X: " + b"x" * 200), allow(408, LOST))


def _send_slow_body(r: random.Random, recording: bytes) -> Attempt:
    request = build("/v1/tag", recording)
    start = request.index(b"\r\n\r\n") + 4
    return Attempt([request[:start], *_iterate_slowly(request[start : start + 200])], allow(408, LOST))


def _iterate_slowly(content: bytes) -> list[bytes | float]:
    return [part for i in range(len(content)) for part in (content[i : i + 1], 0.1)]
