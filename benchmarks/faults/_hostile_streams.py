"""Hostile clients of the WebSocket: wrong messages, wrong samples, and frames that break the protocol."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Sequence
from typing import Any

from _attempts import LOST, Attempt, Kind

_HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_START = {"type": "start", "sample_rate": 16_000, "encoding": "S16_LE"}
_END = {"type": "end"}
_CLIENTS = 2  # half of the limit of streams, since a stream ends a little later than its connection
_NORMAL, _PROTOCOL, _UNSUPPORTED, _INVALID, _POLICY, _TOO_BIG = 1000, 1002, 1003, 1007, 1008, 1009


def list_stream_kinds() -> list[Kind]:
    """Return all kinds of hostile clients of the WebSocket. Their statuses are codes of the close frame."""
    return [
        Kind("WebSocket: wrong first message", 250, _break_start, _CLIENTS),
        Kind("WebSocket: wrong values in the first message", 400, _break_values, _CLIENTS),
        Kind("WebSocket: wrong later messages", 150, _break_later, _CLIENTS),
        Kind("WebSocket: frames that break the protocol", 300, _break_frames, _CLIENTS),
        Kind("WebSocket: broken handshakes", 150, _break_handshake),
        Kind("WebSocket: random samples, NaN, half samples", 200, _send_samples, _CLIENTS),
        Kind("WebSocket: client leaves", 100, _leave, _CLIENTS),
        Kind(
            "WebSocket: silent clients",
            20,
            lambda r: _attempt([_encode_json(_START)] * r.randrange(2), _POLICY),
            _CLIENTS,
        ),
    ]


def encode_frame(
    opcode: int, content: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True, length: Any = None
) -> bytes:
    """Return a frame of the protocol; `length` replaces the right length."""
    size = len(content) if length is None else length
    mask = 128 if masked else 0
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    extended = b"" if size < 126 else struct.pack(">H" if short == 126 else ">Q", size)
    head = bytes([(128 if fin else 0) | reserved << 4 | opcode, mask | short]) + extended
    return head + (bytes(4) if masked else b"") + content  # a mask of zeros changes nothing


def _encode_json(values: Any) -> bytes:
    return encode_frame(_TEXT, json.dumps(values).encode())


def _attempt(frames: Sequence[bytes | float], *codes: int, closes: bool = False) -> Attempt:
    return Attempt([_HANDSHAKE, *frames], frozenset(codes), closes, waits=True)


def _break_start(r: random.Random) -> Attempt:
    message = r.choice(
        [
            *(_encode_json(each) for each in (None, [], "start", 5, {}, {"type": 5}, _END, {"type": "START"})),
            *(encode_frame(_TEXT, each) for each in (b"", b"{", b"[" * 100_000, b'{"type":' * 1_000, b"\0")),
            *(encode_frame(_BINARY, each) for each in (b"", b"\0" * 1_000, json.dumps(_START).encode())),
            encode_frame(_TEXT, b"x" * 2_000_000),
        ]
    )
    return _attempt([message], _POLICY, _TOO_BIG)


_VALUES = (None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "\0", [], {}, ["x"], [[]], {"a": {}}, "x" * 10_000)
_NAMES = (
    *("sample_rate", "encoding", "channels", "model", "classes", "top", "threshold", "hop_seconds", "off_threshold"),
    *("smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds", "token", "output", "source", "x"),
)


def _break_values(r: random.Random) -> Attempt:
    values = {**_START, **{r.choice(_NAMES): r.choice(_VALUES) for _ in range(r.randrange(1, 3))}}
    return _attempt([_encode_json(values), encode_frame(_BINARY, bytes(3_200)), _encode_json(_END)], _NORMAL, _POLICY)


def _break_later(r: random.Random) -> Attempt:
    message = r.choice(
        [
            *(_encode_json(each) for each in (_START, {"type": "x"}, [], None)),
            *(encode_frame(_TEXT, each) for each in (b"{", b"", b"end")),
            encode_frame(_BINARY, bytes(3_000_000)),
            encode_frame(_BINARY, bytes(5_000_000)),
        ]
    )
    return _attempt([_encode_json(_START), encode_frame(_BINARY, bytes(3_200)), message], _POLICY, _TOO_BIG)


def _break_frames(r: random.Random) -> Attempt:
    frame = r.choice(
        [
            encode_frame(_TEXT, b"{}", reserved=r.randrange(1, 8)),
            encode_frame(r.choice([3, 4, 7, 11, 15]), b"x"),
            encode_frame(_TEXT, b"{}", masked=False),
            encode_frame(_PING, b"x" * 200),
            encode_frame(_PING, b"x", fin=False),
            encode_frame(0, b"x"),
            encode_frame(_TEXT, b"{", fin=False) + encode_frame(_TEXT, b"}"),
            encode_frame(_TEXT, b"\xff\xfe"),
            encode_frame(_BINARY, b"", length=1 << 62),
            encode_frame(_BINARY, b"", length=(1 << 64) - 1),
            encode_frame(_CLOSE, b"\x03"),
            encode_frame(_CLOSE, struct.pack(">H", 5)),
            b"GET / HTTP/1.1\r\n\r\n",
        ]
    )
    frames = [_encode_json(_START)] * r.randrange(2) + [frame]
    return _attempt(frames, _PROTOCOL, _INVALID, _POLICY, _TOO_BIG)


def _break_handshake(r: random.Random) -> Attempt:
    old, new = r.choice(
        [
            (b"Version: 13", b"Version: 7"),
            (b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", b""),
            (b"AAAAAAAAAAAAAAAAAAAAAA==", b"short"),
            (b"GET", b"POST"),
            (b"/v1/stream", b"/v1/nothing"),
            (b"/v1/stream", b"/v1/tag"),
            (b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\nOrigin: http://attacker.example"),
            (b"Host: 127.0.0.1", b"Host: attacker.example"),
        ]
    )
    return Attempt([_HANDSHAKE.replace(old, new)], frozenset({400, 403, 404, 405, 421, 426, LOST}))


def _send_samples(r: random.Random) -> Attempt:
    encoding = r.choice(["S16_LE", "F32_LE"])
    values = {
        **_START,
        "encoding": encoding,
        "sample_rate": r.choice([8_000, 44_100, 192_000]),
        "channels": r.choice([1, 3]),
    }
    content = r.choice([os.urandom(40_001), b"\xff\xff\xff\x7f" * 9_000, struct.pack("<f", float("inf")) * 9_000])
    sent = [encode_frame(_BINARY, content[: r.randrange(1, len(content))]) for _ in range(r.randrange(1, 5))]
    # Samples that begin like an audio file are refused.
    return _attempt([_encode_json(values), *sent, _encode_json(_END)], _NORMAL, _POLICY)


def _leave(r: random.Random) -> Attempt:
    frames = [_encode_json(_START), encode_frame(_BINARY, bytes(r.randrange(1, 60_000)))]
    last = r.choice([b"", encode_frame(_BINARY, bytes(9))[:5], encode_frame(_PONG), encode_frame(_CLOSE)])
    return _attempt([*frames, last], closes=True)


def _stay_silent(r: random.Random) -> Attempt:
    return _attempt([_encode_json(_START)] * r.randrange(2), _POLICY)
