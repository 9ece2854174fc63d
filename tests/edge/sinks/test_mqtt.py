"""What the MQTT sink publishes to a real mosquitto, which may be absent, die or return."""

import json
import socket
import sys
import threading
import time

import pytest
from edge.models import wait_for
from edge.sinks.brokers import CLASSES, Subscriber, create_sink
from edge.sinks.reports import MOMENT, create_event, create_result

from kerastag.edge.sinks import mqtt
from kerastag.edge.sinks.home_assistant import create_discovery_messages, create_slugs
from kerastag.edge.sinks.mqtt import MqttSink
from kerastag.edge.sinks.sink import SourceReport

pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")


def test_results_events_states_and_availability_are_published(broker):
    subscriber = Subscriber(broker)
    sink = create_sink(broker)
    wait_for(lambda: subscriber.get_last("home/kitchen/status") == "online")
    wait_for(lambda: subscriber.get_last("home/kitchen/dog_bark/state") == "OFF")
    report = create_result(0.25, 0.5)._replace(names=CLASSES)
    sink.write_result(report)
    sink.write_event(create_event("Dog bark", 1.0))
    wait_for(lambda: subscriber.get_last("home/kitchen/dog_bark/state") == "ON")
    for probability in (0.51, 0.6):  # the first change is too small
        sink.write_result(report._replace(probabilities=report.probabilities * [1, 0] + [0, probability]))
    sink.write_event(create_event("Dog bark", 1.0, 2.0))
    sink.write_event(create_event("Speech", 1.0))  # a class without sensors
    wait_for(lambda: len(subscriber.get_payloads("home/kitchen/event")) == 3)
    events = map(json.loads, subscriber.get_payloads("home/kitchen/event"))
    assert [event["state"] for event in events] == ["begin", "end", "begin"]
    assert subscriber.get_payloads("home/kitchen/dog_bark/state")[-2:] == ["ON", "OFF"]
    assert subscriber.get_payloads("home/kitchen/dog_bark/probability") == ["0.250"]
    assert subscriber.get_payloads("home/kitchen/rain_heavy/probability") == ["0.500", "0.600"]
    assert len(subscriber.get_payloads("home/kitchen/result")) == 3
    assert json.loads(subscriber.get_payloads("home/kitchen/result")[0]) == report.as_dict()
    sink.close()
    wait_for(lambda: subscriber.get_last("home/kitchen/status") == "offline")
    subscriber.close()
    late = Subscriber(broker)
    wait_for(lambda: late.get_last("home/kitchen/status") == "offline")
    wait_for(lambda: late.get_last("home/kitchen/dog_bark/state") == "OFF")
    late.close()


def test_home_assistant_discovers_one_device_with_two_sensors_per_class_and_one_of_the_source(broker):
    sink = create_sink(broker, device_id="ear", device_name="Kitchen ear")
    subscriber = Subscriber(broker)
    wait_for(lambda: subscriber.get_last("homeassistant/sensor/ear/rain_heavy_probability/config"))
    messages = [(topic.split("/"), payload) for topic, payload, _ in subscriber.messages]
    configs = {tuple(levels[1:]): json.loads(text) for levels, text in messages if levels[0] == "homeassistant"}
    assert set(configs) == {
        ("binary_sensor", "ear", "dog_bark", "config"),
        ("binary_sensor", "ear", "rain_heavy", "config"),
        ("sensor", "ear", "dog_bark_probability", "config"),
        ("sensor", "ear", "rain_heavy_probability", "config"),
        ("sensor", "ear", "source", "config"),
    }
    bark = configs["binary_sensor", "ear", "dog_bark", "config"]
    assert bark["state_topic"] == "home/kitchen/dog_bark/state"
    assert (bark["device_class"], bark["payload_on"], bark["payload_off"]) == ("sound", "ON", "OFF")
    probability = configs["sensor", "ear", "dog_bark_probability", "config"]
    assert probability["state_topic"] == "home/kitchen/dog_bark/probability"
    source = configs.pop(("sensor", "ear", "source", "config"))
    assert (source["state_topic"], source["entity_category"]) == ("home/kitchen/source", "diagnostic")
    assert (source["device_class"], source["options"]) == ("enum", ["listening", "lost", "silent"])
    assert source["availability"] == [{"topic": "home/kitchen/status"}]
    for config in configs.values():  # unavailable while the stream is offline or the source is lost
        assert config["availability_mode"] == "all"
        assert [topic["topic"] for topic in config["availability"]] == ["home/kitchen/status", "home/kitchen/source"]
        assert config["availability"][1]["payload_not_available"] == "lost"
    # `object_id` is ignored since Home Assistant 2026.4.
    assert not any("object_id" in config for config in configs.values())
    assert bark["default_entity_id"] == "binary_sensor.ear_dog_bark"
    assert probability["default_entity_id"] == "sensor.ear_dog_bark_probability"
    assert {json.dumps(config["device"]) for config in configs.values()} == {json.dumps(bark["device"])}
    assert (bark["device"]["name"], bark["device"]["model"]) == ("Kitchen ear", "mn04")
    assert len({config["unique_id"] for config in configs.values()}) == 4
    sink.close()
    subscriber.close()
    later = Subscriber(broker)  # the messages are retained
    wait_for(lambda: sum(topic.startswith("homeassistant/") and retained for topic, _, retained in later.messages) == 5)
    later.close()


def get_retained(broker):
    """Return the retained messages of a broker by topic."""
    subscriber = Subscriber(broker)
    subscriber.client.publish("end", "")  # after them
    wait_for(lambda: ("end", "", False) in subscriber.messages)
    subscriber.close()
    return {topic: payload for topic, payload, retained in subscriber.messages if retained}


def test_classes_that_are_no_longer_selected_are_removed_from_home_assistant(broker):
    url = f"mqtt://127.0.0.1:{broker.port}/ear"
    MqttSink(f"mqtt://127.0.0.1:{broker.port}/other", ("Dog bark",), device_id="other").close()
    earlier = MqttSink(url, CLASSES, device_id="ear")
    wait_for(lambda: get_retained(broker).get("ear/dog_bark/state") == "OFF")
    earlier.close()
    assert "homeassistant/binary_sensor/ear/dog_bark/config" in get_retained(broker)
    later = MqttSink(url, ("Rain, heavy",), device_id="ear")
    wait_for(lambda: not any("/dog_bark" in topic for topic in get_retained(broker) if "/ear/" in topic))
    topics = set(get_retained(broker))
    assert "ear/dog_bark/state" not in topics
    assert {"ear/rain_heavy/state", "homeassistant/binary_sensor/ear/rain_heavy/config"} <= topics
    assert "homeassistant/sensor/ear/source/config" in topics
    later.close()


def test_the_state_of_the_source_is_retained_and_lost_before_the_first_audio(broker):
    sink = create_sink(broker)
    wait_for(lambda: get_retained(broker).get("home/kitchen/source") == "lost")
    for state in ("listening", "lost", "silent"):
        sink.write_source(SourceReport(state, "mic", 1.0, MOMENT))
        wait_for(lambda state=state: get_retained(broker).get("home/kitchen/source") == state)
    sink.close()
    assert get_retained(broker)["home/kitchen/source"] == "lost"
    assert get_retained(broker)["home/kitchen/status"] == "offline"


def test_two_streams_with_one_topic_stay_connected_and_are_online(broker):
    lines = []
    first = create_sink(broker, lines)
    wait_for(first._client.is_connected)
    second = MqttSink(f"mqtt://127.0.0.1:{broker.port}/home/kitchen", ("Speech",), lines.append)
    # The second removes what the first has announced, which the first repeats.
    wait_for(lambda: lines)
    removed = "another client has removed sensors of this stream, which are announced again"
    names = ("dog_bark", "rain_heavy", "speech")
    device = next(iter(first._discovery_messages)).split("/")[2]
    topics = {f"homeassistant/binary_sensor/{device}/{name}/config" for name in names}
    wait_for(lambda: topics <= set(get_retained(broker)))
    time.sleep(0.3)
    assert first._client.is_connected()
    assert second._client.is_connected()
    second.close()
    wait_for(lambda: get_retained(broker)["home/kitchen/status"] == "online")  # the first one still is
    first.close()
    wait_for(lambda: get_retained(broker)["home/kitchen/status"] == "offline")
    assert set(lines) == {f"mqtt 127.0.0.1:{broker.port}: {removed}"}
    assert len(lines) <= 2  # at most one of each


def test_a_broker_that_comes_back_gets_all_events(start, tmp_path):
    # The broker stores subscriptions, so that it does not matter which client is back first.
    broker = start("allow_anonymous true", "persistence true", f"persistence_location {tmp_path}/")
    subscriber = Subscriber(broker, client_id="ear")
    lines = []
    sink = create_sink(broker, lines)
    wait_for(lambda: subscriber.get_last("home/kitchen/rain_heavy/state") == "OFF")
    sink.write_result(create_result(0.5, 0.5)._replace(names=CLASSES))
    wait_for(lambda: subscriber.get_last("home/kitchen/dog_bark/probability") == "0.500")
    broker.process.terminate()
    wait_for(lambda: lines)
    began = time.monotonic()
    for number in range(50):
        sink.write_event(create_event("Dog bark", float(number)))
        sink.write_result(create_result(0.5, 0.5)._replace(names=CLASSES))
    assert time.monotonic() - began < 2.0  # nobody waits for the broker
    broker.kill()
    broker.start()
    wait_for(lambda: len(subscriber.get_payloads("home/kitchen/event")) >= 50)
    report = [json.loads(payload)["onset_seconds"] for payload in subscriber.get_payloads("home/kitchen/event")]
    assert list(dict.fromkeys(report)) == list(range(50))
    wait_for(lambda: subscriber.get_last("home/kitchen/dog_bark/state") == "ON")
    wait_for(lambda: subscriber.get_last("home/kitchen/status") == "online")
    sink.write_result(create_result(0.5, 0.5)._replace(names=CLASSES))
    # The probability is unchanged, but the broker may have lost it.
    new = ("home/kitchen/dog_bark/probability", "0.500", False)
    wait_for(lambda: subscriber.messages.count(new) == 2)
    assert lines[0].startswith(f"mqtt 127.0.0.1:{broker.port}: connection lost")
    assert lines[-1] == f"mqtt 127.0.0.1:{broker.port}: is back"
    sink.close()
    subscriber.close()


def test_an_absent_broker_is_reported_once_and_the_queue_is_limited(start, monkeypatch):
    monkeypatch.setattr(mqtt, "MAX_QUEUED_MESSAGES", 20)
    broker = start()
    broker.kill()
    lines = []
    sink = create_sink(broker, lines)
    for number in range(30):
        sink.write_event(create_event("Dog bark", float(number)))
    assert len(sink._client._out_messages) == 20
    wait_for(lambda: lines)
    broker.start()
    subscriber = Subscriber(broker)
    wait_for(lambda: not sink._client._out_messages)  # the broker has confirmed all of them
    wait_for(lambda: subscriber.get_last("home/kitchen/status") == "online")  # although the queue was full
    wait_for(lambda: subscriber.get_last("home/kitchen/dog_bark/state") == "ON")
    wait_for(lambda: any(name.startswith("homeassistant/") for name, _, _ in subscriber.messages))
    wait_for(lambda: len(lines) == 4)
    name = f"mqtt 127.0.0.1:{broker.port}"
    refused = f"{name}: cannot be reached ([Errno 111] Connection refused); it is retried, and up to 20 messages are"
    assert sum(line.startswith(refused) for line in lines[:2]) == 1
    assert f"{name}: 20 messages are queued; newer events are dropped" in lines[:2]
    assert lines[2:] == [f"{name}: is back", f"{name}: 10 events were dropped while 20 older ones were queued"]
    sink.write_event(create_event("Dog bark", 30.0))
    wait_for(lambda: len(subscriber.get_payloads("home/kitchen/event")) == 21)
    events = [json.loads(payload)["onset_seconds"] for payload in subscriber.get_payloads("home/kitchen/event")]
    assert events == [*range(20), 30]
    sink.close()
    subscriber.close()
    broker.kill()
    gone = create_sink(broker, lines)
    gone.write_event(create_event("Dog bark"))
    began = time.monotonic()
    gone.close()
    assert time.monotonic() - began < 5
    assert lines[-1] == f"{name}: 1 events were not sent, as the broker was down at the end"


def test_too_many_classes_are_not_announced(broker):
    lines = []
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}", [f"class {n}" for n in range(65)], lines.append)
    assert lines == ["mqtt: no sensors for Home Assistant: at most 64 classes; received: 65"]
    assert [topic.split("/")[3] for topic in sink._discovery_messages] == ["source"]
    sink.close()
    with pytest.raises(ValueError, match="`device_id` must be letters, digits, _ and -; received: 'a/b'"):
        create_sink(broker, device_id="a/b")
    with pytest.raises(ValueError, match=r"`discovery_prefix` must be a topic without \+ and #; received: 'a/#'"):
        create_sink(broker, discovery_prefix="a/#")


def test_a_connection_that_is_made_while_the_sink_closes_is_closed(monkeypatch):
    create_connection, is_connecting = socket.create_connection, threading.Event()

    def connect_slowly(*arguments, **options):
        is_connecting.set()
        time.sleep(0.2)
        return create_connection(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", connect_slowly)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        sink = MqttSink(f"mqtt://127.0.0.1:{server.getsockname()[1]}/home/kitchen", CLASSES, print)
        assert is_connecting.wait(20)
        sink.close()
        with server.accept()[0] as connection:
            connection.settimeout(5)
            while connection.recv(1_000):
                pass
    assert sink._client.socket().fileno() == -1


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(ImportError, match=r"needs the package paho-mqtt: pip install 'kerastag\[mqtt\]'"):
        MqttSink("mqtt://host/topic")


def test_discovery_topics_are_distinct():
    names = ["Dog: bark!", "Dog bark", "dog_bark_2"]
    slugs = create_slugs(names)
    assert len(set(slugs.values())) == 3
    topics = [topic for topic, _ in create_discovery_messages("ha", "base", slugs, "ear", "Ear", "model")]
    assert len(topics) == len(set(topics)) == 7
