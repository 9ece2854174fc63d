"""Results and events to an MQTT broker, where Home Assistant discovers the classes as sensors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kerastag.edge.sinks.home_assistant import create_discovery_messages, create_slugs
from kerastag.edge.sinks.mqtt_connection import (
    PASSWORD_VARIABLE,
    USERNAME_VARIABLE,
    BrokerAddress,
    create_tls_context,
)
from kerastag.edge.sinks.sink import EventReport, ResultReport, Sink, SourceReport

__all__ = ["MqttSink"]

MAX_QUEUED_MESSAGES = 1_000
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1, 60
_KEEPALIVE_SECONDS = 30
_CLOSE_SECONDS = 2.0
_MIN_PROBABILITY_CHANGE = 0.05  # A smaller change of a probability is not published.
_MAX_SENSORS = 64
_WRONG_NAME_CODES = (62, 64)  # Of OpenSSL, for a certificate with another host name or IP address.


class MqttSink(Sink):
    """A sink that publishes results and events to an MQTT broker, and announces selected classes to Home Assistant.

    `BASE/status` is `online` or `offline` (the broker publishes the latter if this process dies), and `BASE/source` is
    `listening`, `lost` or `silent`; `BASE/event` and `BASE/result` are JSON; for each selected class `BASE/CLASS/state`
    is `ON` or `OFF` and `BASE/CLASS/probability` a number. All but events and results are retained. In Home Assistant
    the classes are unavailable while the stream is offline or its source is lost.

    A broker that is down does not stop the stream: the connection is retried with pauses from one second to a minute,
    and states are published again when it is back. Up to 1,000 events are queued; newer ones are dropped, counted and
    reported. Results are not queued.

    The broker remembers what was announced to Home Assistant. At each connection, announcements of this device for
    classes that are no longer selected are read and removed. Streams need a topic each: two on one host with the same
    topic stay connected, but are one device.

    Args:
        url: `mqtt://HOST[:PORT]/BASE`, or `mqtts://...` for TLS; the default of `BASE` is `kerastag`.
        classes: Names of the selected classes, each of which becomes two sensors; empty for no sensors.
        log: Function that takes one line of text for the user.
        model: Name of the model, which Home Assistant shows.
        source_state: State of the source before the first report of it.
        username: User name for the broker; by default that of the URL or `KERASTAG_MQTT_USERNAME`.
        password: Password for the broker; by default that of the URL or `KERASTAG_MQTT_PASSWORD`. It is never printed.
        ca_file: Path of the certificates of the authorities to trust, for `mqtts`; by default those of the system.
        client_certificate: Path of the certificate by which this client identifies itself, for `mqtts`.
        client_key: Path of the key of `client_certificate`, if it is another file.
        server_name: Name that the certificate of the broker must have, for `mqtts`; by default the host of the URL.
        discovery_prefix: Topic prefix that Home Assistant subscribes to; empty to announce nothing.
        device_id: Unique identifier of this device, of letters, digits, `_` and `-`; by default made from the host name
            and `BASE`.
        device_name: Displayed name of this device; by default kerastag and the host name.
        results: Whether each result is published to `BASE/result`.

    Raises:
        ImportError: paho-mqtt is not installed.
        ValueError: An argument is out of range.
        FileNotFoundError: A file does not exist.
    """

    def __init__(
        self,
        url: str,
        classes: Sequence[str] = (),
        log: Callable[[str], None] = print,
        model: str = "",
        source_state: str = "lost",
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        client_certificate: str | None = None,
        client_key: str | None = None,
        server_name: str | None = None,
        discovery_prefix: str = "homeassistant",
        device_id: str | None = None,
        device_name: str | None = None,
        results: bool = True,
    ) -> None:
        address = BrokerAddress(url)
        if discovery_prefix and len(classes) > _MAX_SENSORS:
            log(f"mqtt: no sensors for Home Assistant: at most {_MAX_SENSORS} classes; received: {len(classes)}")
            classes = ()
        host = socket.gethostname()
        self.name = f"mqtt {address.host}:{address.port}"
        self._log, self._publishes_results, self._source_state = log, results, source_state
        self._base = address.base
        self._slugs = create_slugs(classes)
        self._active_classes: set[str] = set()
        self._published: dict[str, float] = {}
        device_id = device_id or f"kerastag_{hashlib.sha1(f'{host}/{address.base}'.encode()).hexdigest()[:10]}"
        if not re.fullmatch(r"[A-Za-z0-9_-]+", device_id):
            raise ValueError(f"`device_id` must be letters, digits, _ and -; received: {device_id!r}")
        if re.search(r"[#+\0]", discovery_prefix):
            raise ValueError(f"`discovery_prefix` must be a topic without + and #; received: {discovery_prefix!r}")
        device_name = device_name or f"kerastag {host}"
        self._subscriptions = [f"{self._base}/status"]
        self._discovery_messages: dict[str, str] = {}  # By topic.
        if discovery_prefix:
            self._subscriptions.append(f"{discovery_prefix}/+/{device_id}/+/config")
            self._discovery_messages = {
                topic: json.dumps(config)
                for topic, config in create_discovery_messages(
                    discovery_prefix, self._base, self._slugs, device_id, device_name, model
                )
            }
        self._is_down = self._is_closing = self._was_removed = False
        self._waiting = self._dropped = 0  # Events since the connection broke: queued and not.
        self._lock = threading.Lock()
        self._ca_file = ca_file
        self._may_need_certificate = address.tls and client_certificate is None  # Until there is a connection.
        tls_context = create_tls_context(address, ca_file, client_certificate, client_key, server_name)
        # A client ID of its own for each process: the broker disconnects an older client with the same one.
        client_id = f"{device_id}_{secrets.token_hex(4)}"
        self._client = self._create_client(address, client_id, username, password, tls_context)

    def write_result(self, report: ResultReport) -> None:
        if self._publishes_results:
            self._client.publish(f"{self._base}/result", json.dumps(report.as_dict()))
        for name, probability in zip(report.names, report.probabilities.tolist(), strict=True):
            slug = self._slugs.get(name)
            has_changed = abs(probability - self._published.get(name, -1.0)) >= _MIN_PROBABILITY_CHANGE
            if slug is not None and has_changed and self._client.is_connected():
                self._published[name] = probability
                self._client.publish(f"{self._base}/{slug}/probability", f"{probability:.3f}", retain=True)

    def write_event(self, report: EventReport) -> None:
        with self._lock:
            (self._active_classes.add if report.state == "begin" else self._active_classes.discard)(report.name)
        is_connected = self._client.is_connected()
        message = self._client.publish(f"{self._base}/event", json.dumps(report.as_dict()), qos=1)
        if is_connected:  # Otherwise the state is published when it is connected.
            self._publish_state(self._client, report.name)
        if message.rc == self._queue_is_full:
            if not self._dropped:
                self._log(f"{self.name}: {MAX_QUEUED_MESSAGES} messages are queued; newer events are dropped")
            with self._lock:
                self._dropped += 1
        elif is_connected:
            self._report_dropped()
        else:
            with self._lock:
                self._waiting += 1

    def write_source(self, report: SourceReport) -> None:
        self._source_state = report.state
        if self._client.is_connected():
            self._client.publish(f"{self._base}/source", report.state, retain=True)

    def close(self) -> None:
        """Publish that this device is offline, wait up to two seconds for unsent messages, and disconnect."""
        self._is_closing = True
        if self._client.is_connected():
            self._client.publish(f"{self._base}/source", "lost", retain=True)
            message = self._client.publish(f"{self._base}/status", "offline", retain=True)
            deadline = time.monotonic() + _CLOSE_SECONDS
            with contextlib.suppress(RuntimeError):  # The connection broke just now: the broker publishes it.
                while self._client.is_connected() and not message.is_published() and time.monotonic() < deadline:
                    time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()
        # paho leaves a connection that was made after `disconnect` to the garbage collector.
        late = self._client.socket()
        if late is not None:
            late.close()
        if self._waiting:
            self._log(f"{self.name}: {self._waiting} events were not sent, as the broker was down at the end")
        self._report_dropped()

    def _create_client(
        self,
        address: BrokerAddress,
        client_id: str,
        username: str | None,
        password: str | None,
        tls_context: ssl.SSLContext | None,
    ) -> Any:
        try:
            from paho.mqtt import client as paho
        except ImportError as error:
            raise ImportError("mqtt needs the package paho-mqtt: pip install 'kerastag[mqtt]'") from error
        self._queue_is_full = paho.MQTT_ERR_QUEUE_SIZE
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id)
        username = username or address.username or os.environ.get(USERNAME_VARIABLE)
        if username:
            client.username_pw_set(username, password or address.password or os.environ.get(PASSWORD_VARIABLE))
        if tls_context is not None:
            client.tls_set_context(tls_context)
        client.max_queued_messages_set(MAX_QUEUED_MESSAGES)
        client.reconnect_delay_set(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        client.will_set(f"{self._base}/status", "offline", qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail, client.on_message = self._on_connect_fail, self._on_message
        client.connect_async(address.host, address.port, _KEEPALIVE_SECONDS)
        client.loop_start()
        return client

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        """Publish everything that is retained, since the broker may have lost it; paho's thread calls this.

        It is published without confirmation, which would need a place in the queue that events may have filled. What
        is lost with the connection is published again with the next one.
        """
        if reason.is_failure:
            self._report_failure(f"refuses the connection: {reason}")
            return
        if self._is_down:
            self._log(f"{self.name}: is back")
        self._is_down = self._may_need_certificate = False
        with self._lock:
            self._waiting = 0
        self._report_dropped()
        for topic, config in self._discovery_messages.items():
            client.publish(topic, config, retain=True)
        client.publish(f"{self._base}/source", self._source_state, retain=True)
        client.publish(f"{self._base}/status", "online", retain=True)
        self._published.clear()
        for name in self._slugs:
            self._publish_state(client, name)
        client.subscribe([(topic, 0) for topic in self._subscriptions])

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        """Remove what an earlier stream has announced, and repeat what another client has removed."""
        if self._is_closing:
            return
        config = self._discovery_messages.get(message.topic)
        if message.topic == self._subscriptions[0]:
            if message.payload == b"offline":  # By the broker, for an earlier connection that it believed alive.
                client.publish(message.topic, "online", retain=True)
        elif config is None and message.retain and message.payload:
            client.publish(message.topic, None, retain=True)
            with contextlib.suppress(ValueError, KeyError, TypeError):  # It is not one of ours.
                state_topic = json.loads(message.payload)["state_topic"]
                if re.fullmatch(re.escape(self._base) + "/[a-z0-9_]+/(state|probability)", state_topic):
                    client.publish(state_topic, None, retain=True)
        elif config is not None and not message.payload:
            client.publish(message.topic, config, retain=True)
            if not self._was_removed:
                self._log(f"{self.name}: another client has removed sensors of this stream, which are announced again")
            self._was_removed = True

    def _report_dropped(self) -> None:
        with self._lock:
            count, self._dropped = self._dropped, 0
        if count:
            self._log(f"{self.name}: {count} events were dropped while {MAX_QUEUED_MESSAGES} older ones were queued")

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            hint = "; it may require `client_certificate`" if self._may_need_certificate else ""
            self._report_failure(f"connection lost ({reason}{hint})")

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        error = sys.exception()  # paho calls this from the handler of the exception.
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code in _WRONG_NAME_CODES:
                remedy = "`server_name` can be the name in its certificate"
            else:
                remedy = f"`ca_file` must be the certificate of its authority; received: {self._ca_file}"
            self._report_failure(f"has a certificate that is not trusted ({error.verify_message}; {remedy})")
            return
        self._report_failure(f"cannot be reached ({error or 'unknown reason'})")

    def _report_failure(self, failure: str) -> None:
        if not self._is_down:
            self._log(f"{self.name}: {failure}; it is retried, and up to {MAX_QUEUED_MESSAGES} messages are queued")
        self._is_down = True

    def _publish_state(self, client: Any, name: str) -> None:
        slug = self._slugs.get(name)
        if slug is not None:
            with self._lock:
                state = "ON" if name in self._active_classes else "OFF"
            client.publish(f"{self._base}/{slug}/state", state, retain=True)
