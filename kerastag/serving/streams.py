"""Live audio over a WebSocket: PCM in, results and events out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from kerastag.edge.blocks import Block
from kerastag.edge.config import StreamConfig
from kerastag.edge.service import StreamService, SystemdNotifier, create_rules, select_classes
from kerastag.edge.sinks import SinkGroup
from kerastag.edge.sinks.sink import EventReport, ResultReport, Sink, SourceReport
from kerastag.edge.sources.pcm import PcmFormat, read_pcm_blocks
from kerastag.edge.streaming import StreamingTagger
from kerastag.events import EventTracker
from kerastag.serving.engine import ServedModel
from kerastag.serving.errors import RequestError
from kerastag.serving.server_state import ServerState

__all__ = ["serve_stream"]

_MAX_MESSAGE_BYTES = 1 << 20
_MAX_WAITING_MESSAGES = 8
_SEND_SECONDS = 30.0
_RULES = ("threshold", "off_threshold", "smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds")
_PCM_KEYS = ("encoding", "sample_rate", "channels")
_CONFIG_KEYS = ("classes", "top", "thresholds", "hop_seconds", "channel", *_RULES)
_KEYS = ("type", "token", "model", *_PCM_KEYS, *_CONFIG_KEYS)
_ENCODINGS = {"F32_LE": "FLOAT_LE", "F32_BE": "FLOAT_BE"}  # names of GStreamer
_POLICY, _TOO_BIG, _GOING_AWAY, _TRY_LATER = 1008, 1009, 1001, 1013


async def serve_stream(websocket: WebSocket, state: ServerState) -> None:
    """Serve a WebSocket until the client ends the stream or leaves, or the server ends.

    The first message is JSON of the type `start`; binary messages of PCM follow, and JSON of the type `end`. The
    answers are JSON: `ready`, then those of `kerastag stream --output json:-`, then `end`; or `error`, after which the
    server closes the connection.
    """
    await websocket.accept()
    if state.num_streams >= state.config.max_streams:
        message = f"there are at most {state.config.max_streams} streams at the same time; try again later"
        await _close_with_error(websocket, RequestError(429, "too_many_streams", message), _TRY_LATER)
        return
    state.num_streams += 1
    try:
        await _Session(websocket, state).run()
    except RequestError as error:
        await _close_with_error(websocket, error, _choose_close_code(error))
    except (WebSocketDisconnect, ConnectionError, TimeoutError):
        pass
    finally:
        state.num_streams -= 1


class _Session:
    """One stream: the event loop receives and sends, and a thread runs a `StreamService`."""

    def __init__(self, websocket: WebSocket, state: ServerState) -> None:
        self._websocket, self._state = websocket, state

    async def run(self) -> None:
        message = await self._receive(self._state.config.header_timeout_seconds)
        values = _parse_start(message)
        if not self._websocket.scope["is_authorized"] and not self._state.policy.is_token(values.get("token")):
            raise RequestError(401, "unauthorized", "the message `start` must have the right `token`")
        model = self._state.models.get(values.get("model"))
        if not model.can_stream:
            raise RequestError(422, "not_streaming", f"{model.name}: must be a .tflite model to tag streams; it is not")
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="stream") as executor:
            source = _WebSocketSource(_parse_pcm(values), loop)
            sink = _WebSocketSink(lambda report: asyncio.run_coroutine_threadsafe(self._send(report), loop).result())
            tagger, service = await loop.run_in_executor(executor, _create_service, values, model, source, sink)
            ready: dict[str, Any] = {"type": "ready", "model": model.name, "version": str(model.version)}
            ready |= {"sample_rate": model.card.sample_rate, "hop_seconds": tagger.hop_seconds}
            await self._send({**ready, "window_seconds": tagger.window_seconds})
            running = loop.run_in_executor(executor, service.run)
            try:
                is_drained = await self._feed(source, running)
                await running
            except ValueError as error:  # of the stream, such as what begins like a FLAC file
                raise RequestError(422, "invalid_audio", str(error)) from None
            finally:
                source.stop()
                await asyncio.wait((running,))
                running.exception()
        stats = tagger.compute_stats()
        seconds = round(stats.audio_seconds + stats.lost_seconds, 3)
        self._state.metrics.add_audio(model.name, stats.audio_seconds)
        await self._send({"type": "end", "seconds": seconds} | ({"reason": "shutting_down"} if is_drained else {}))
        with contextlib.suppress(RuntimeError):  # The client has closed the connection.
            await self._websocket.close(_GOING_AWAY if is_drained else 1000)

    async def _feed(self, source: _WebSocketSource, running: asyncio.Future[None]) -> bool:
        """Pass the messages of the client on until its stream ends; return whether the server has ended it."""
        draining = asyncio.ensure_future(self._state.draining.wait())
        receiving = None
        try:
            while True:
                receiving = receiving or asyncio.ensure_future(self._receive(self._state.config.stream_idle_seconds))
                await asyncio.wait((receiving, draining, running), return_when=asyncio.FIRST_COMPLETED)
                if draining.done() or running.done():
                    source.end()
                    return draining.done()
                message, receiving = receiving.result(), None
                if isinstance(message, bytes):
                    await source.put(message)
                elif _parse_json(message).get("type") == "end":
                    source.end()
                    return False
                else:
                    raise RequestError(400, "bad_message", "a message must be PCM or of the type `end`; it is neither")
        finally:
            draining.cancel()
            if receiving is not None:
                receiving.cancel()

    async def _receive(self, seconds: float) -> str | bytes:
        try:
            async with asyncio.timeout(seconds):
                message = await self._websocket.receive()
        except TimeoutError:
            raise RequestError(408, "idle", f"a message must come within {seconds:g} s; none has") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        content: str | bytes = message["bytes"] if message.get("text") is None else message["text"]
        if len(content) > _MAX_MESSAGE_BYTES:
            raise RequestError(
                413, "too_large", f"a message must have at most {_MAX_MESSAGE_BYTES} bytes; it is larger"
            )
        return content

    async def _send(self, values: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._websocket.send_text(json.dumps(values, ensure_ascii=False))
        except RuntimeError:  # The connection has been closed, for a frame that breaks the protocol.
            raise WebSocketDisconnect(1006) from None


class _WebSocketSource:
    """A source of PCM that the event loop receives; implements `kerastag.edge.sources.source.Source`."""

    name, live = "stream", False

    def __init__(self, pcm: PcmFormat, loop: asyncio.AbstractEventLoop) -> None:
        self._pcm, self._loop = pcm, loop
        self._messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(_MAX_WAITING_MESSAGES)
        self._buffer, self._has_ended = bytearray(), False

    async def put(self, content: bytes) -> None:
        """Pass a message on, once there is room for it."""
        if content:
            await self._room.acquire()
            self._messages.put(content)

    def end(self) -> None:
        """Declare that no more messages follow."""
        self._messages.put(b"")

    def __iter__(self) -> Iterator[Block]:
        return read_pcm_blocks(self._read, self._pcm, self.name, self.live)

    def stop(self) -> None:
        """End the iteration soon."""
        self.end()

    def close(self) -> None:
        """Do nothing, as the event loop owns the connection."""

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size and not self._has_ended:
            content = self._messages.get()
            self._has_ended = not content
            self._buffer += content
            if content:
                self._loop.call_soon_threadsafe(self._room.release)
        content = bytes(self._buffer[:size])
        del self._buffer[:size]
        return content


class _WebSocketSink(Sink):
    """A sink that sends reports as JSON; it waits until the client takes them."""

    name = "stream"

    def __init__(self, send: Callable[[dict[str, Any]], object]) -> None:
        self._send = send

    def write_result(self, report: ResultReport) -> None:
        self.write(report.as_dict())

    def write_event(self, report: EventReport) -> None:
        self.write(report.as_dict())

    def write_source(self, report: SourceReport) -> None:
        self.write(report.as_dict())

    def write(self, values: dict[str, Any]) -> None:
        """Send JSON values; a client that has left ends the stream."""
        try:
            self._send(values)
        except Exception:
            raise BrokenPipeError from None


def _create_service(
    values: dict[str, Any], model: ServedModel, source: _WebSocketSource, sink: _WebSocketSink
) -> tuple[StreamingTagger, StreamService]:
    try:
        options = {name: values[name] for name in _CONFIG_KEYS if name in values}
        config = StreamConfig(model=model.name, source="-", output=("json:-",), timeout_seconds=3_600.0, **options)
        tagger = StreamingTagger(model.runtime, hop_seconds=config.hop_seconds)  # type: ignore[arg-type]
        classes = select_classes(config, tagger)
        tracker = EventTracker(len(classes), tagger.seconds_per_frame, create_rules(config, tagger, classes))
    except ValueError as error:
        raise RequestError(422, "invalid_parameter", str(error)) from None

    def warn(line: str) -> None:
        sink.write({"type": "warning", "message": line})

    sinks = SinkGroup(warn)
    sinks.add(sink)
    return tagger, StreamService(tagger, tracker, classes, source, sinks, config, warn, SystemdNotifier({}))


def _parse_start(message: str | bytes) -> dict[str, Any]:
    values = _parse_json(message)
    if values.get("type") != "start":
        raise RequestError(
            400, "bad_message", f"the first message must be of the type `start`; received: {_show(values.get('type'))}"
        )
    if unknown := sorted(values.keys() - set(_KEYS)):
        raise RequestError(
            422, "invalid_parameter", f"`start` must have only {', '.join(_KEYS)}; received: {_show(unknown[0])}"
        )
    if not isinstance(values.get("model"), str | None):
        raise RequestError(422, "invalid_parameter", f"`model` must be a name; received: {_show(values['model'])}")
    return {name: value for name, value in values.items() if value is not None}


def _parse_pcm(values: dict[str, Any]) -> PcmFormat:
    if "sample_rate" not in values:
        raise RequestError(422, "invalid_parameter", "`start` must have `sample_rate`; received: none")
    encoding, channels, rate = values.get("encoding", "S16_LE"), values.get("channels", 1), values["sample_rate"]
    for name, value in (("sample_rate", rate), ("channels", channels)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or value != int(value)
        ):
            raise RequestError(422, "invalid_parameter", f"`{name}` must be an integer; received: {_show(value)}")
    try:
        return PcmFormat(_ENCODINGS.get(str(encoding), str(encoding)[:100]), int(rate), int(channels))
    except ValueError as error:
        raise RequestError(422, "invalid_parameter", str(error)) from None


def _parse_json(message: str | bytes) -> dict[str, Any]:
    try:
        values = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise RequestError(
            400, "bad_message", "a text message must be a JSON object, and the first message a text; it is not"
        )
    return values


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _choose_close_code(error: RequestError) -> int:
    return {413: _TOO_BIG, 429: _TRY_LATER, 503: _TRY_LATER}.get(error.status, _POLICY)


async def _close_with_error(websocket: WebSocket, error: RequestError, code: int) -> None:
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        async with asyncio.timeout(_SEND_SECONDS):
            await websocket.send_text(json.dumps({"type": "error", "code": error.code, "message": error.message}))
            await websocket.close(code, error.code)
    except (RuntimeError, ConnectionError, TimeoutError, WebSocketDisconnect):
        pass  # The client has left.
