"""Tests of what clients may send on a connection, byte by byte."""

import contextlib
import socket

import pytest

from kerastag.serving.listening import listen

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"


def exchange(server, *parts):
    """Send parts, and return the status of each answer."""
    host, port = server.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection, contextlib.suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)
        while part := connection.recv(65_536):
            received += part
    return [int(answer[:3]) for answer in received.split(b"HTTP/1.1 ")[1:]]


def test_requests_that_follow_each_other_are_answered_in_order(server):
    post = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    assert exchange(server, post + GET + b"\r\n" + post + GET + CLOSE) == [415, 200, 415, 200]


def test_many_requests_before_the_first_answer_end_the_connection(server):
    statuses = exchange(server, (GET + b"\r\n") * 2_000)
    assert set(statuses) == {200}
    assert len(statuses) < 20


def test_an_endless_header_is_refused(server):
    assert exchange(server, GET + b"X-Filler: ", *[b"x" * 60_000] * 20)[:1] in ([400], [])


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET + b"X-Filler: " + b"x" * 40_000 + b"\r\n" + CLOSE,
        GET + b"X-Filler: x\r\n" * 4_000 + CLOSE,
        b"GET /healthz?" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n" + CLOSE,
        GET + b"Host: other\r\n" + CLOSE,
        GET + b"Content-Length: 3\r\nContent-Length: 4\r\n" + CLOSE + b"abcd",
        GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"0\r\n\r\n",
        GET + b"X Filler: 1\r\n" + CLOSE,
        b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n" + CLOSE,
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n" + CLOSE,
        b"GET /healthz HTTP/1.1\r\n" + CLOSE,
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_a_head_that_is_wrong_or_too_large_is_refused(server, request_bytes):
    assert exchange(server, request_bytes) == [400]


def test_headers_after_a_body_have_no_effect_and_a_limit(server):
    head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" + CLOSE
    trailer = b"content-type: multipart/form-data; boundary=x\r\n"
    assert exchange(server, head + b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n") == [415]
    assert exchange(server, head + b"5\r\nhello\r\n", b"0\r\n" + b"X-Filler: x\r\n" * 4_000 + b"\r\n") == [400]


def test_what_follows_a_request_does_not_cost_its_answer(server):
    request = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    assert exchange(server, request + b"\0 no request \r\n\r\n")[0] == 415


def test_the_parts_of_an_answer_do_not_wait_for_each_other():
    with listen("127.0.0.1", 0) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted = listener.accept()[0]
        with client, accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
