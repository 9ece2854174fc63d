"""A real mosquitto, and a client that collects its messages."""

import os
import shutil
import socket
import subprocess

import pytest
from edge.models import wait_for

from kerastag.edge.sinks.mqtt import MqttSink

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
CLASSES = ("Dog bark", "Rain, heavy")


class Broker:
    """A mosquitto on a free port of this machine, without persistence."""

    def __init__(self, folder, *settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.config = folder / f"mosquitto_{self.port}.conf"
        privileges = ["user root"] if os.geteuid() == 0 else []  # else it drops them, and cannot read its files
        settings = settings or ["allow_anonymous true"]
        lines = [*privileges, f"listener {self.port} 127.0.0.1", "log_dest none", *settings]
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.start()

    def start(self):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([MOSQUITTO, "-c", self.config], **quiet)
        wait_for(self.is_listening)

    def is_listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()


class Subscriber:
    """A client that collects all messages of a broker."""

    def __init__(self, broker, client_id="", **login):
        paho = pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")
        self.messages = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=not client_id)
        if login:
            self.client.username_pw_set(**login)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        subscribed = []
        self.client.on_subscribe = lambda *_: subscribed.append(True)
        self.client.on_message = lambda client, data, m: self.messages.append((m.topic, m.payload.decode(), m.retain))
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        wait_for(lambda: subscribed)

    def get_payloads(self, topic):
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def get_last(self, topic):
        return (self.get_payloads(topic) or [None])[-1]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def create_sink(broker, lines=None, **options):
    log = print if lines is None else lines.append
    return MqttSink(f"mqtt://127.0.0.1:{broker.port}/home/kitchen", CLASSES, log, "mn04", **options)
