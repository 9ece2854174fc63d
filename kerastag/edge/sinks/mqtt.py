"""Results and events -> an MQTT broker, where Home Assistant finds them by itself."""

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
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from kerastag.edge.reports import EventReport, ResultReport
from kerastag.edge.sinks.home_assistant import Topics, discovery, slugs

__all__ = ["Mqtt"]

USERNAME, PASSWORD = "KERASTAG_MQTT_USERNAME", "KERASTAG_MQTT_PASSWORD"
WAITING_MESSAGES = 1_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1, 60
_KEEPALIVE_SECONDS = 30
_FAREWELL_SECONDS = 2.0
_NEWS = 0.05  # by how much a probability has to change before it is published again
_MOST_SENSORS = 64
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Mqtt:
    """Results and events -> topics of a broker; Home Assistant's discovery, where classes were chosen.

    `BASE/status` is `online` or `offline` (the broker says so when this process dies), `BASE/event` and `BASE/result`
    have JSON; for each chosen class `BASE/CLASS/state` is `ON` or `OFF` and `BASE/CLASS/probability` a number, both
    retained. A broker that is down stops nothing: events wait, up to 1,000 of them, the connection is tried again with
    pauses of one second to a minute, and states are told anew when it is there.

    Args:
        url: `mqtt://HOST[:PORT]/BASE` or `mqtts://...` (TLS). `BASE` is `kerastag` where none is given.
        classes: Names of the chosen classes, for sensors; none, no sensors.
        report: Takes one line for people.
        model: What Home Assistant shows as the device's model.
        username, password: For the broker; by default those of the URL, or of the environment, `KERASTAG_MQTT_USERNAME`
            and `KERASTAG_MQTT_PASSWORD`. They are never printed.
        ca_file: Certificates that the broker's must come from, with `mqtts`; by default the system's.
        discovery_prefix: Where Home Assistant looks; empty: nothing is announced.
        device_id: What tells this device from every other one; by default made of host name and `BASE`.
        device_name: What people call it; by default kerastag and the host name.
        results: Whether each result goes to `BASE/result`.

    Raises:
        ImportError: paho-mqtt is not installed.
        ValueError: An argument is outside its range.
    """

    def __init__(
        self,
        url: str,
        classes: Sequence[str] = (),
        report: Callable[[str], None] = print,
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
        place = _place(url)
        if discovery_prefix and len(classes) > _MOST_SENSORS:
            report(f"mqtt: {len(classes)} classes are too many sensors for Home Assistant (at most {_MOST_SENSORS})")
            classes = ()
        host = socket.gethostname()
        self.name = f"mqtt {place.host}:{place.port}"
        self._report, self._results = report, results
        self._topics = Topics(place.base)
        self._slugs = slugs(classes)
        self._sounding: set[str] = set()
        self._published: dict[str, float] = {}
        device_id = device_id or f"kerastag_{hashlib.sha1(f'{host}/{place.base}'.encode()).hexdigest()[:10]}"
        if not re.fullmatch(r"[A-Za-z0-9_-]+", device_id):
            raise ValueError(f"`device_id` must be letters, figures, _ and -, received {device_id!r}")
        name = device_name or f"kerastag {host}"
        self._announced = (
            list(discovery(discovery_prefix, self._topics, self._slugs, device_id, name, model))
            if discovery_prefix
            else []
        )
        self.dropped = 0
        """Messages that had no place in the queue."""
        self._down = False
        self._lock = threading.Lock()
        self._client = self._connected(place, device_id, username, password, ca_file)

    def result(self, report: ResultReport) -> None:
        """The result, and the probabilities that have changed."""
        if self._results:
            self._client.publish(self._topics.result, json.dumps(report.as_dict()))
        for name, probability in zip(report.names, report.probabilities.tolist(), strict=True):
            slug = self._slugs.get(name)
            news = abs(probability - self._published.get(name, -1.0)) >= _NEWS
            if slug is not None and news and self._client.is_connected():
                self._published[name] = probability
                self._client.publish(self._topics.probability(slug), f"{probability:.3f}", retain=True)

    def event(self, report: EventReport) -> None:
        """The event, and the state of its class."""
        with self._lock:
            (self._sounding.add if report.state == "begin" else self._sounding.discard)(report.name)
        message = self._client.publish(self._topics.event, json.dumps(report.as_dict()), qos=1)
        self.dropped += message.rc == _paho().MQTT_ERR_QUEUE_SIZE
        if self._client.is_connected():  # otherwise the state is told when it is
            self._tell_state(self._client, report.name)

    def reopen(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Say goodbye, wait two seconds at most for what is not sent yet, and disconnect."""
        if self._client.is_connected():
            farewell = self._client.publish(self._topics.status, "offline", retain=True)
            deadline = time.monotonic() + _FAREWELL_SECONDS
            with contextlib.suppress(RuntimeError):  # the connection went in this moment: the broker says it for us
                while self._client.is_connected() and not farewell.is_published() and time.monotonic() < deadline:
                    time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self, place: _Place, device_id: str, username: str | None, password: str | None, ca_file: str | None
    ) -> Any:
        paho = _paho()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=device_id)
        username = username or place.username or os.environ.get(USERNAME)
        if username:
            client.username_pw_set(username, password or place.password or os.environ.get(PASSWORD))
        if ca_file and not os.path.isfile(ca_file):  # noqa: PTH113
            raise FileNotFoundError(f"{ca_file}: there is no such file of certificates (`ca_file`)")
        if place.tls:
            client.tls_set(ca_certs=ca_file)
        elif ca_file:
            raise ValueError("`ca_file` is for mqtts://, received mqtt://")
        client.max_queued_messages_set(WAITING_MESSAGES)
        client.reconnect_delay_set(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        client.will_set(self._topics.status, "offline", qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        client.connect_async(place.host, place.port, _KEEPALIVE_SECONDS)
        client.loop_start()
        return client

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        """In paho's thread: everything that is retained, for a broker that may have forgotten it.

        Without confirmation, which would need a place in the queue that events may have filled; what the connection
        loses is told again with the next one.
        """
        if reason.is_failure:
            self._say_down(f"refuses the connection: {reason}")
            return
        if self._down:
            self._report(f"{self.name}: is back")
        self._down = False
        for topic, config in self._announced:
            client.publish(topic, json.dumps(config), retain=True)
        client.publish(self._topics.status, "online", retain=True)
        self._published.clear()
        for name in self._slugs:
            self._tell_state(client, name)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._say_down(f"connection lost ({reason})")

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        self._say_down(f"cannot be reached ({sys.exception() or 'no reason given'})")  # paho calls from its handler

    def _say_down(self, what: str) -> None:
        if not self._down:
            self._report(f"{self.name}: {what}; tried again, up to {WAITING_MESSAGES} messages wait")
        self._down = True

    def _tell_state(self, client: Any, name: str) -> None:
        slug = self._slugs.get(name)
        if slug is not None:
            with self._lock:
                state = "ON" if name in self._sounding else "OFF"
            client.publish(self._topics.state(slug), state, retain=True)


class _Place:
    """The parts of a broker's URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        self.tls = parts.scheme == "mqtts"
        self.host = parts.hostname or ""
        self.port = port or _PORTS.get(parts.scheme, 0)
        self.base = unquote(url.partition("://")[2].partition("/")[2]).strip("/") or "kerastag"
        self.username = unquote(parts.username) if parts.username else None
        self.password = unquote(parts.password) if parts.password else None


def _place(url: str) -> _Place:
    place = _Place(url)
    if not place.host or not 0 < place.port < 65_536 or re.search(r"[#+?\0]", place.base):
        shown = re.sub(r"//.*@", "//…@", url)
        raise ValueError(f"`output` must be mqtt://HOST[:PORT]/TOPIC, without + and # in the topic, received {shown!r}")
    return place


def _paho() -> Any:
    try:
        from paho.mqtt import client
    except ImportError as error:
        raise ImportError("mqtt needs the package paho-mqtt: pip install 'kerastag[mqtt]'") from error
    return client
