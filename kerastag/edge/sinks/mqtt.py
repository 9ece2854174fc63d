"""Results and events to an MQTT broker, where Home Assistant discovers the classes as sensors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from kerastag._version import __version__
from kerastag.edge.sinks.sink import EventReport, ResultReport, Sink

__all__ = ["MqttSink", "create_discovery_messages", "create_slugs"]

USERNAME_VARIABLE, PASSWORD_VARIABLE = "KERASTAG_MQTT_USERNAME", "KERASTAG_MQTT_PASSWORD"
MAX_QUEUED_MESSAGES = 1_000
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1, 60
_KEEPALIVE_SECONDS = 30
_CLOSE_SECONDS = 2.0
_MIN_PROBABILITY_CHANGE = 0.05  # A smaller change of a probability is not published.
_MAX_SENSORS = 64
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttSink(Sink):
    """A sink that publishes results and events to an MQTT broker, and announces selected classes to Home Assistant.

    `BASE/status` is `online` or `offline` (the broker publishes the latter if this process dies); `BASE/event` and
    `BASE/result` are JSON; for each selected class `BASE/CLASS/state` is `ON` or `OFF` and `BASE/CLASS/probability` a
    number, both retained. A broker that is down does not stop the stream: up to 1,000 events are queued, the connection
    is retried with pauses from one second to a minute, and states are published again when it is back.

    Args:
        url: `mqtt://HOST[:PORT]/BASE`, or `mqtts://...` for TLS; the default of `BASE` is `kerastag`.
        classes: Names of the selected classes, each of which becomes two sensors; empty for no sensors.
        log: Function that takes one line of text for the user.
        model: Name of the model, which Home Assistant shows.
        username: User name for the broker; by default that of the URL or `KERASTAG_MQTT_USERNAME`.
        password: Password for the broker; by default that of the URL or `KERASTAG_MQTT_PASSWORD`. It is never printed.
        ca_file: Path of the certificates of the authorities to trust, for `mqtts`; by default those of the system.
        discovery_prefix: Topic prefix that Home Assistant subscribes to; empty to announce nothing.
        device_id: Unique identifier of this device, of letters, digits, `_` and `-`; by default made from the host name
            and `BASE`.
        device_name: Displayed name of this device; by default kerastag and the host name.
        results: Whether each result is published to `BASE/result`.

    Raises:
        ImportError: paho-mqtt is not installed.
        ValueError: An argument is out of range.
        FileNotFoundError: `ca_file` does not exist.
    """

    def __init__(
        self,
        url: str,
        classes: Sequence[str] = (),
        log: Callable[[str], None] = print,
        model: str = "",
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        discovery_prefix: str = "homeassistant",
        device_id: str | None = None,
        device_name: str | None = None,
        results: bool = True,
    ) -> None:
        address = _BrokerAddress(url)
        if discovery_prefix and len(classes) > _MAX_SENSORS:
            log(f"mqtt: no sensors for Home Assistant: at most {_MAX_SENSORS} classes; received: {len(classes)}")
            classes = ()
        host = socket.gethostname()
        self.name = f"mqtt {address.host}:{address.port}"
        self._log, self._publishes_results = log, results
        self._base = address.base
        self._slugs = create_slugs(classes)
        self._active_classes: set[str] = set()
        self._published: dict[str, float] = {}
        device_id = device_id or f"kerastag_{hashlib.sha1(f'{host}/{address.base}'.encode()).hexdigest()[:10]}"
        if not re.fullmatch(r"[A-Za-z0-9_-]+", device_id):
            raise ValueError(f"`device_id` must be letters, digits, _ and -; received: {device_id!r}")
        device_name = device_name or f"kerastag {host}"
        self._discovery_messages = (
            list(create_discovery_messages(discovery_prefix, self._base, self._slugs, device_id, device_name, model))
            if discovery_prefix
            else []
        )
        self._is_down = False
        self._lock = threading.Lock()
        self._client = self._create_client(address, device_id, username, password, ca_file)

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
        self._client.publish(f"{self._base}/event", json.dumps(report.as_dict()), qos=1)
        if self._client.is_connected():  # Otherwise the state is published when it is connected.
            self._publish_state(self._client, report.name)

    def close(self) -> None:
        """Publish that this device is offline, wait up to two seconds for unsent messages, and disconnect."""
        if self._client.is_connected():
            message = self._client.publish(f"{self._base}/status", "offline", retain=True)
            deadline = time.monotonic() + _CLOSE_SECONDS
            with contextlib.suppress(RuntimeError):  # The connection broke just now: the broker publishes it.
                while self._client.is_connected() and not message.is_published() and time.monotonic() < deadline:
                    time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()

    def _create_client(
        self, address: _BrokerAddress, device_id: str, username: str | None, password: str | None, ca_file: str | None
    ) -> Any:
        try:
            from paho.mqtt import client as paho
        except ImportError as error:
            raise ImportError("mqtt needs the package paho-mqtt: pip install 'kerastag[mqtt]'") from error
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=device_id)
        username = username or address.username or os.environ.get(USERNAME_VARIABLE)
        if username:
            client.username_pw_set(username, password or address.password or os.environ.get(PASSWORD_VARIABLE))
        if ca_file and not os.path.isfile(ca_file):  # noqa: PTH113
            raise FileNotFoundError(f"{ca_file}: no such file (`ca_file`)")
        if address.tls:
            client.tls_set(ca_certs=ca_file)
        elif ca_file:
            raise ValueError("`ca_file` must be used with mqtts://; received: mqtt://")
        client.max_queued_messages_set(MAX_QUEUED_MESSAGES)
        client.reconnect_delay_set(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        client.will_set(f"{self._base}/status", "offline", qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
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
        self._is_down = False
        for topic, config in self._discovery_messages:
            client.publish(topic, json.dumps(config), retain=True)
        client.publish(f"{self._base}/status", "online", retain=True)
        self._published.clear()
        for name in self._slugs:
            self._publish_state(client, name)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._report_failure(f"connection lost ({reason})")

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        # paho calls this from the handler of the exception.
        self._report_failure(f"cannot be reached ({sys.exception() or 'unknown reason'})")

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


class _BrokerAddress:
    """The parts of the URL of a broker."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        self.tls = parts.scheme == "mqtts"
        self.host = parts.hostname or ""
        self.port = port or _DEFAULT_PORTS.get(parts.scheme, 0)
        self.base = unquote(url.partition("://")[2].partition("/")[2]).strip("/") or "kerastag"
        self.username = unquote(parts.username) if parts.username else None
        self.password = unquote(parts.password) if parts.password else None
        if not self.host or not 0 < self.port < 65_536 or re.search(r"[#+?\0]", self.base):
            safe_url = re.sub(r"//.*@", "//…@", url)
            raise ValueError(
                f"`output` must be mqtt://HOST[:PORT]/TOPIC, without + and # in the topic; received: {safe_url!r}"
            )


def create_slugs(names: Sequence[str]) -> dict[str, str]:
    """Create a distinct slug for each class, of lower-case letters, digits and underscores.

    >>> create_slugs(["Dog: bark!", "Dog bark", "Ö"])
    {'Dog: bark!': 'dog_bark', 'Dog bark': 'dog_bark_2', 'Ö': 'class'}
    """
    slugs: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"
        slug, number = stem, 1
        while slug in slugs.values():
            number += 1
            slug = f"{stem}_{number}"
        slugs[name] = slug
    return slugs


def create_discovery_messages(
    prefix: str, base: str, slugs: Mapping[str, str], device_id: str, device_name: str, model: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the topics and contents of Home Assistant's discovery messages: two sensors per class, of one device."""
    device = {"identifiers": [device_id], "name": device_name, "manufacturer": "kerastag", "model": model}
    shared = {
        "availability_topic": f"{base}/status",
        "device": {**device, "sw_version": __version__},
        "origin": {"name": "kerastag", "sw_version": __version__},
    }
    state = {"device_class": "sound", "payload_on": "ON", "payload_off": "OFF"}
    probability = {"state_class": "measurement", "suggested_display_precision": 2, "icon": "mdi:ear-hearing"}
    for name, slug in slugs.items():
        for component, topic, title, suffix, options in (
            ("binary_sensor", "state", name, "", state),
            ("sensor", "probability", f"{name} probability", "_probability", probability),
        ):
            sensor_id = f"{device_id}_{slug}{suffix}"
            config = {"name": title, "unique_id": sensor_id, "object_id": sensor_id}
            config["state_topic"] = f"{base}/{slug}/{topic}"
            yield f"{prefix}/{component}/{device_id}/{slug}{suffix}/config", {**config, **options, **shared}
