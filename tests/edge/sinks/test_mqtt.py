"""MQTT with a real mosquitto: what arrives, what stays; a broker that is absent, dies, returns, or wants a password."""

import json
import os
import shutil
import socket
import subprocess
import time

import pytest
from edge.sinks.reported import event, result

from kerastag.edge.sinks.home_assistant import Topics, discovery, slugs
from kerastag.edge.sinks.mqtt import Mqtt

paho = pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="needs the program mosquitto (apt install mosquitto)")
CLASSES = ("Dog bark", "Rain, heavy")


def wait_for(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Broker:
    """A mosquitto on a free port of this machine; what is retained dies with it."""

    def __init__(self, folder, *settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.config = folder / f"mosquitto_{self.port}.conf"
        privileges = ["user root"] if os.geteuid() == 0 else []  # it would drop them, and not read its own files
        lines = (
            *privileges,
            f"listener {self.port} 127.0.0.1",
            "log_dest none",
            *(settings or ["allow_anonymous true"]),
        )
        self.config.write_text("\n".join(lines) + "\n")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self.listens)

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()


class Subscriber:
    """Everything that a broker is told, in order, and what of it is retained."""

    def __init__(self, broker, lasting="", **login):
        self.messages = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=lasting, clean_session=not lasting)
        if login:
            self.client.username_pw_set(**login)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        subscribed = []
        self.client.on_subscribe = lambda *_: subscribed.append(True)
        self.client.on_message = lambda client, data, m: self.messages.append((m.topic, m.payload.decode(), m.retain))
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        wait_for(lambda: subscribed)

    def of(self, topic):
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def last(self, topic):
        return (self.of(topic) or [None])[-1]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def start(tmp_path):
    """Settings -> a broker, which ends with the test."""
    brokers = []

    def started(*settings):
        brokers.append(Broker(tmp_path, *settings))
        return brokers[-1]

    yield started
    for broker in brokers:
        broker.kill()


@pytest.fixture
def broker(start):
    return start()


def opened(broker, said=None, **options):
    report = print if said is None else said.append
    return Mqtt(f"mqtt://127.0.0.1:{broker.port}/home/kitchen", CLASSES, report, "mn04", **options)


def test_results_events_states_and_availability(broker):
    ear = Subscriber(broker)
    sink = opened(broker)
    wait_for(lambda: ear.last("home/kitchen/status") == "online")
    wait_for(lambda: ear.last("home/kitchen/dog_bark/state") == "OFF")
    heard = result(0.25, 0.5)._replace(names=CLASSES)
    sink.result(heard)
    sink.event(event("Dog bark", 1.0))
    wait_for(lambda: ear.last("home/kitchen/dog_bark/state") == "ON")
    for probability in (0.51, 0.6):  # the first one is no news
        sink.result(heard._replace(probabilities=heard.probabilities * [1, 0] + [0, probability]))
    sink.event(event("Dog bark", 1.0, 2.0))
    sink.event(event("Speech", 1.0))  # of no sensor
    wait_for(lambda: len(ear.of("home/kitchen/event")) == 3)
    assert [json.loads(payload)["state"] for payload in ear.of("home/kitchen/event")] == ["begin", "end", "begin"]
    assert ear.of("home/kitchen/dog_bark/state")[-2:] == ["ON", "OFF"]
    assert ear.of("home/kitchen/dog_bark/probability") == ["0.250"]
    assert ear.of("home/kitchen/rain_heavy/probability") == ["0.500", "0.600"]
    assert len(ear.of("home/kitchen/result")) == 3
    assert json.loads(ear.of("home/kitchen/result")[0]) == heard.as_dict()
    sink.close()
    wait_for(lambda: ear.last("home/kitchen/status") == "offline")
    ear.close()
    late = Subscriber(broker)
    wait_for(lambda: late.last("home/kitchen/status"))
    assert late.last("home/kitchen/status") == "offline"
    assert late.last("home/kitchen/dog_bark/state") == "OFF"
    late.close()


def test_home_assistant_finds_one_device_with_two_sensors_a_class(broker):
    sink = opened(broker, device_id="ear", device_name="Kitchen ear")
    ear = Subscriber(broker)
    wait_for(lambda: ear.last("homeassistant/sensor/ear/rain_heavy_probability/config"))
    configs = {name: json.loads(payload) for name, payload, _ in ear.messages if name.startswith("homeassistant/")}
    assert set(configs) == {
        f"homeassistant/{kind}/config"
        for kind in (
            "binary_sensor/ear/dog_bark",
            "binary_sensor/ear/rain_heavy",
            "sensor/ear/dog_bark_probability",
            "sensor/ear/rain_heavy_probability",
        )
    }
    bark = configs["homeassistant/binary_sensor/ear/dog_bark/config"]
    assert bark["state_topic"] == "home/kitchen/dog_bark/state"
    assert bark["device_class"] == "sound"
    assert (bark["payload_on"], bark["payload_off"]) == ("ON", "OFF")
    probability = configs["homeassistant/sensor/ear/dog_bark_probability/config"]
    assert probability["state_topic"] == "home/kitchen/dog_bark/probability"
    assert {config["availability_topic"] for config in configs.values()} == {"home/kitchen/status"}
    assert {json.dumps(config["device"]) for config in configs.values()} == {json.dumps(bark["device"])}
    assert bark["device"]["name"] == "Kitchen ear"
    assert bark["device"]["model"] == "mn04"
    assert len({config["unique_id"] for config in configs.values()}) == 4
    sink.close()
    ear.close()
    later = Subscriber(broker)  # who comes later finds them as well: they are retained
    wait_for(lambda: sum(name.startswith("homeassistant/") and kept for name, _, kept in later.messages) == 4)
    later.close()


def test_a_broker_that_goes_and_comes_back_misses_no_event(start, tmp_path):
    # It remembers who listens, so that nothing depends on who is back first.
    broker = start("allow_anonymous true", "persistence true", f"persistence_location {tmp_path}/")
    ear = Subscriber(broker, lasting="ear")
    said = []
    sink = opened(broker, said)
    wait_for(lambda: ear.last("home/kitchen/rain_heavy/state") == "OFF")
    sink.result(result(0.5, 0.5)._replace(names=CLASSES))
    wait_for(lambda: ear.last("home/kitchen/dog_bark/probability") == "0.500")
    broker.process.terminate()
    wait_for(lambda: said)
    began = time.monotonic()
    for number in range(50):
        sink.event(event("Dog bark", float(number)))
        sink.result(result(0.5, 0.5)._replace(names=CLASSES))
    assert time.monotonic() - began < 2.0  # nothing waits for the broker
    broker.kill()
    broker.start()
    wait_for(lambda: len(ear.of("home/kitchen/event")) >= 50)
    heard = [json.loads(payload)["onset_seconds"] for payload in ear.of("home/kitchen/event")]
    assert list(dict.fromkeys(heard)) == list(range(50))
    wait_for(lambda: ear.last("home/kitchen/dog_bark/state") == "ON")
    wait_for(lambda: ear.last("home/kitchen/status") == "online")
    sink.result(result(0.5, 0.5)._replace(names=CLASSES))
    # No news, but news for a broker that may have forgotten it.
    new = ("home/kitchen/dog_bark/probability", "0.500", False)
    wait_for(lambda: ear.messages.count(new) == 2)
    assert said[0].startswith(f"mqtt 127.0.0.1:{broker.port}: connection lost")
    assert said[-1] == f"mqtt 127.0.0.1:{broker.port}: is back"
    assert sink.dropped == 0
    sink.close()
    ear.close()


def test_a_broker_that_is_not_there_is_said_once_and_waited_for_in_bounded_memory(start, monkeypatch):
    from kerastag.edge.sinks import mqtt

    monkeypatch.setattr(mqtt, "WAITING_MESSAGES", 20)
    broker = start()
    broker.kill()
    said = []
    sink = opened(broker, said)
    for number in range(30):
        sink.event(event("Dog bark", float(number)))
    assert len(sink._client._out_messages) == 20
    assert sink.dropped == 10
    wait_for(lambda: said)
    broker.start()
    ear = Subscriber(broker)
    wait_for(lambda: not sink._client._out_messages)  # the broker has confirmed each
    wait_for(lambda: ear.last("home/kitchen/status") == "online")  # however full the queue is
    wait_for(lambda: ear.last("home/kitchen/dog_bark/state") == "ON")
    wait_for(lambda: any(name.startswith("homeassistant/") for name, _, _ in ear.messages))
    wait_for(lambda: len(said) == 2)
    assert "cannot be reached ([Errno 111] Connection refused); tried again, up to 20 messages wait" in said[0]
    sink.close()
    ear.close()
    broker.kill()
    gone = opened(broker, said)
    began = time.monotonic()
    gone.close()
    assert time.monotonic() - began < 5


def test_a_password_is_asked_for_sent_and_never_said(start, tmp_path, monkeypatch):
    passwords = tmp_path / "passwords"
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs the program mosquitto_passwd")
    subprocess.run([program, "-b", "-c", passwords, "ear", "secret-1"], check=True)
    passwords.chmod(0o644)
    broker = start("allow_anonymous false", f"password_file {passwords}")
    said = []
    wrong = opened(broker, said, username="ear", password="secret-2")
    wait_for(lambda: said)
    assert said == [
        f"mqtt 127.0.0.1:{broker.port}: refuses the connection: Not authorized; tried again, up to 1000 messages wait"
    ]
    wrong.close()
    monkeypatch.setenv("KERASTAG_MQTT_USERNAME", "ear")
    monkeypatch.setenv("KERASTAG_MQTT_PASSWORD", "secret-1")
    ear = Subscriber(broker, username="ear", password="secret-1")
    right = opened(broker, said)
    wait_for(lambda: ear.last("home/kitchen/status") == "online")
    right.close()
    in_url = Mqtt(f"mqtt://ear:secret-1@127.0.0.1:{broker.port}/in/url", (), said.append)
    wait_for(lambda: ear.last("in/url/status") == "online")
    assert "secret" not in in_url.name
    in_url.close()
    ear.close()
    assert not any("secret" in line for line in said)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves the socket of a failed handshake to the garbage collector
def test_tls(start, tmp_path):
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the program openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([program, *new, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    key.chmod(0o644)
    broker = start("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    said = []
    url = f"mqtts://127.0.0.1:{broker.port}/tls"
    trusting = Mqtt(url, (), said.append, ca_file=str(certificate))
    wait_for(lambda: trusting._client.is_connected())
    trusting.close()
    assert not said
    strange = Mqtt(url, (), said.append)
    wait_for(lambda: said)
    assert "CERTIFICATE_VERIFY_FAILED" in said[0]
    strange.close()
    with pytest.raises(FileNotFoundError, match="gone.pem: there is no such file of certificates"):
        Mqtt(url, (), said.append, ca_file="gone.pem")


@pytest.mark.parametrize(
    "url", ["mqtt://", "mqtt:///topic", "mqtt://host:0x/topic", "mqtt://host:70000/topic", "mqtt://me:secret@host/a/#"]
)
def test_an_url_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(ValueError, match=r"`output` must be mqtt://HOST\[:PORT\]/TOPIC") as refused:
        Mqtt(url)
    assert "secret" not in str(refused.value)


def test_more_classes_than_anyone_wants_sensors_of_are_not_announced(broker):
    said = []
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}", [f"class {n}" for n in range(65)], said.append)
    assert said == ["mqtt: 65 classes are too many sensors for Home Assistant (at most 64)"]
    assert not sink._announced
    sink.close()
    with pytest.raises(ValueError, match="`device_id` must be letters, figures, _ and -, received 'a/b'"):
        opened(broker, device_id="a/b")


def test_without_the_package_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(ImportError, match=r"needs the package paho-mqtt: pip install 'kerastag\[mqtt\]'"):
        Mqtt("mqtt://host/topic")


def test_discovery_names_each_topic_once():
    names = ["Dog: bark!", "Dog bark", "dog_bark_2"]
    found = slugs(names)
    assert len(set(found.values())) == 3
    topics = [topic for topic, _ in discovery("ha", Topics("base"), found, "ear", "Ear", "model")]
    assert len(topics) == len(set(topics)) == 6
