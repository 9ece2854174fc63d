"""The connections of a server: their number, and the size, time and order of what clients send on them."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LimitedProtocol"]

_MAX_HEAD_BYTES = 32 << 10
_MAX_PIPELINED = 8
_MAX_WAITING_BODY_BYTES = 256 << 10  # as much as one read of a socket gives; fewer would stop it after each


class LimitedProtocol(HttpToolsProtocol):
    """A connection of HTTP: one of a limited number, whose client must send the headers of a request in time.

    The parser holds whatever has neither ended a line of the head nor become a part of the body, and takes any number
    of headers and of requests. So their sizes and number are limited here.
    """

    max_connections = 512
    header_seconds = 10.0

    _header_timer: asyncio.TimerHandle | None = None
    _waiting_bytes = 0  # since the last part of a body, or the end of a head or a body
    _head_bytes = 0
    _is_head = True
    _has_failed = False  # to parse what follows the requests so far

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            transport.close()
            return
        self._header_timer = self.loop.call_later(self.header_seconds, self._end_slow_connection)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._has_failed or self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._header_timer is None:  # the beginning of another request on the same connection
            self._header_timer = self.loop.call_later(self.header_seconds, self._end_slow_connection)
        self._waiting_bytes += len(data)
        super().data_received(data)
        if self._waiting_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()

    def on_message_begin(self) -> None:
        self._is_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._add_to_head(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._add_to_head(name, value)
        if self._is_head:  # Those after the body have no effect.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_head, self._waiting_bytes = False, 0
        if len(self.pipeline) >= _MAX_PIPELINED or [name for name, _ in self.headers].count(b"host") > 1:
            raise ValueError("too many requests before the first answer, or two hosts")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._waiting_bytes = 0
        cycle = self.cycle
        if (self.parser.should_upgrade() and self._should_upgrade()) or cycle.response_complete:
            return
        # A part that is alone is passed on as it is, where the base class would copy it twice.
        cycle.body = cycle.body + body if cycle.body else body  # type: ignore[assignment]
        if len(cycle.body) > _MAX_WAITING_BODY_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._waiting_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not a request, after the answers to the requests before it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            super().send_400_response(msg)
        else:
            self._has_failed = True
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        is_last = self._has_failed and not self.pipeline
        super().on_response_complete()
        if is_last:
            self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        super().handle_websocket_upgrade()

    def _add_to_head(self, *texts: bytes) -> None:
        self._head_bytes += sum(map(len, texts))
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise ValueError("too large headers")

    def _end_slow_connection(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
