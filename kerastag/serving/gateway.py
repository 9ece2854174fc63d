"""What every request passes: checks of access and size, time limits, headers for safety, the log and the metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from kerastag.serving.access import AccessPolicy
from kerastag.serving.config import ServeConfig
from kerastag.serving.errors import RequestError, format_error
from kerastag.serving.metrics import ServerMetrics

__all__ = ["Gateway"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; media-src 'self' blob:; img-src 'self' blob: data:; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
]
_SEND_SECONDS = 60.0
_DISCARD_SECONDS, _DISCARD_BYTES = 5.0, 256 << 20
_OPEN_WHILE_DRAINING = ("/healthz", "/readyz", "/metrics")


class Gateway:
    """An ASGI application around another one.

    Args:
        app: Application that answers the requests.
        config: Configuration of the server.
        policy: Rules of access.
        metrics: Metrics to which requests are added.
        log: Function that takes one line of text.
        debug: Whether errors of the server itself are raised, so that their tracebacks are written.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        config: ServeConfig,
        policy: AccessPolicy,
        metrics: ServerMetrics,
        log: Callable[[str], None],
        debug: bool = False,
    ) -> None:
        self._app, self._config, self._policy, self._metrics = app, config, policy, metrics
        self._log, self._debug = log, debug
        self.is_draining = False
        """Whether new requests are refused, because the server ends."""
        self.num_requests = 0
        """Number of requests and streams that are being answered."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._config)
        self.num_requests += 1
        try:
            try:
                self._check(scope, exchange)
            except RequestError as error:
                await exchange.refuse(error)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except (ConnectionError, TimeoutError):
            exchange.status = exchange.status or 499
        except Exception as error:
            exchange.status = 500
            self._log(f"{scope['path']}: {type(error).__name__}: {' '.join(str(error).split())}")
            if self._debug:
                raise
        finally:
            self.num_requests -= 1
            self._report(scope, exchange)

    def _check(self, scope: Message, exchange: _Exchange) -> None:
        path, headers = scope["path"], exchange.headers
        if self.is_draining and path not in _OPEN_WHILE_DRAINING:
            raise RequestError(503, "shutting_down", "the server is shutting down; try again later", 5.0)
        self._policy.check_site(headers)
        # A browser cannot send the header with a WebSocket; its first message has the token instead.
        is_preflight = scope.get("method") == "OPTIONS"  # without the header, and without effect
        if not is_preflight and (scope["type"] == "http" or "authorization" in headers):
            self._policy.check_token(path, headers)
        scope["is_authorized"] = not self._policy.needs_token or "authorization" in headers
        if exchange.content_length > exchange.max_body_bytes:
            raise exchange.create_size_error()

    def _report(self, scope: Message, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - exchange.start_time
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.add_request(route, exchange.status, seconds)
        client = (scope.get("client") or ("-",))[0]
        method = scope.get("method", "WEBSOCKET")
        # The query of an address may hold what is nobody's business; control characters are escaped.
        path = quote(scope["path"], safe="/:@,;=+~!*'()$&")[:200]
        size = f"{exchange.received_bytes} B"
        self._log(f"{client} {method} {path} {exchange.status} {1000 * seconds:.1f} ms {size}")


class _Exchange:
    """A request and its answer, with limits."""

    def __init__(self, scope: Message, receive: Receive, send: Send, config: ServeConfig) -> None:
        self._scope, self._receive, self._send, self._config = scope, receive, send, config
        self.start_time = time.perf_counter()
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.max_body_bytes = round(config.max_body_mb * 1e6)
        length = self.headers.get("content-length", "0")
        self.content_length = int(length) if length.isdecimal() and len(length) < 20 else 0
        has_body = self.content_length > 0 or "transfer-encoding" in self.headers
        self._is_body_complete = scope["type"] != "http" or not has_body
        self._upload_deadline = asyncio.get_running_loop().time() + config.upload_timeout_seconds
        self.received_bytes = 0
        self.status = 0

    def create_size_error(self) -> RequestError:
        """Create the error of a body that is too large."""
        message = f"the body must have at most {self._config.max_body_mb:g} MB; it is larger"
        return RequestError(413, "too_large", message)

    async def receive(self) -> Message:
        """Receive the next part of the request; a body that is too large or too slow is a `RequestError`."""
        if self._is_body_complete or self._scope["type"] != "http":
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._upload_deadline):
                message = await self._receive()
        except TimeoutError:
            seconds = self._config.upload_timeout_seconds
            raise RequestError(408, "slow_upload", f"the body must arrive within {seconds:g} s; it did not") from None
        self._add(message)
        if self.received_bytes > self.max_body_bytes:
            raise self.create_size_error()
        return message

    async def send(self, message: Message) -> None:
        """Send the next part of the answer, within a minute, with the headers that every answer has."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
            if not self._is_body_complete:
                message["headers"].append((b"connection", b"close"))
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and not self.status:
            self.status = 403
        is_last = kind == "http.response.body" and not message.get("more_body", False)
        if is_last and not self._is_body_complete:
            # A client that is still sending would otherwise get a reset connection in place of the answer.
            await self._send_in_time({**message, "more_body": True})
            await self._discard_body()
            message = {"type": kind, "body": b""}
        await self._send_in_time(message)

    async def refuse(self, error: RequestError) -> None:
        """Answer with an error."""
        content = json.dumps(format_error(self._scope["path"], error), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **error.headers}
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        prefix = "http.response" if self._scope["type"] == "http" else "websocket.http.response"
        await self.send({"type": f"{prefix}.start", "status": error.status, "headers": encoded})
        await self.send({"type": f"{prefix}.body", "body": content})

    async def _send_in_time(self, message: Message) -> None:
        async with asyncio.timeout(_SEND_SECONDS):
            await self._send(message)

    async def _discard_body(self) -> None:
        if "expect" in self.headers and not self.received_bytes:
            return  # The client waits for permission to send, which it does not get.
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._is_body_complete and self.received_bytes < _DISCARD_BYTES:
                    self._add(await self._receive())
        except TimeoutError:
            pass

    def _add(self, message: Message) -> None:
        self.received_bytes += len(message.get("body", b""))
        self._is_body_complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
