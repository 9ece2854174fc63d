"""The container: its commands exist, and its broker and its stream work together, without the container."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from edge.models import wait_for
from edge.sinks.brokers import MOSQUITTO, Broker, Subscriber

from checks import ROOT
from kerastag.cli import build_parser

yaml = pytest.importorskip("yaml", reason="needs PyYAML")
KIT = ROOT / "export" / "container"
CONTAINERFILE = (KIT / "Containerfile").read_text(encoding="utf-8")


def read_services() -> dict[str, Any]:
    return yaml.safe_load((KIT / "compose.yaml").read_text(encoding="utf-8"))["services"]


def find_instructions(name: str) -> list[list[str]]:
    """Return the JSON lists of an instruction."""
    return [json.loads(each) for each in re.findall(rf"^ *{name} (\[.*\])$", CONTAINERFILE, re.M)]


def test_the_commands_exist() -> None:
    stream, serve = find_instructions("ENTRYPOINT")
    arguments, services = find_instructions("CMD")[-1], read_services()
    for command in (serve + arguments, serve + services["serve"]["command"], stream + services["kitchen"]["command"]):
        assert command[0] == "kerastag"
        args = build_parser().parse_args(command[1:])
        assert args.verb in ("serve", "stream")
    health = find_instructions("CMD")[0]
    assert health[:2] == ["python", "-c"]
    compile(health[2], "health", "exec")


def test_every_copied_file_exists_and_no_container_runs_as_root() -> None:
    for line in re.findall(r"^COPY (.*)$", CONTAINERFILE, re.M):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line
    last_users = [re.findall(r"^USER (\S+)", stage, re.M) for stage in CONTAINERFILE.split("\nFROM ")]
    assert last_users[-2:] == [["10001:10001"]] * 2
    for name, service in read_services().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "build" in service or service["user"] == "1883:1883", name


@pytest.mark.skipif(MOSQUITTO is None, reason="needs the program mosquitto (apt install mosquitto)")
@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="needs the program mosquitto_passwd")
def test_home_assistant_discovers_the_stream_at_the_broker(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")
    passwords = tmp_path / "passwords.txt"
    passwords.write_text("kerastag:secret\n", encoding="utf-8")
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
    text = (KIT / "mosquitto.conf").read_text(encoding="utf-8")
    text = text.replace("/run/secrets/mosquitto_passwords", str(passwords)).replace("log_dest stderr\n", "")
    settings = [line for line in text.splitlines() if not line.startswith(("#", "listener"))]
    broker = Broker(tmp_path, *settings)
    subscriber = Subscriber(broker, username="kerastag", password="secret")
    command = ["--source=-" if part.startswith("--source") else part for part in read_services()["kitchen"]["command"]]
    command = [part.replace("//broker/", f"//127.0.0.1:{broker.port}/") for part in command]
    login = {"KERASTAG_MQTT_USERNAME": "kerastag", "KERASTAG_MQTT_PASSWORD": "secret"}
    stream = subprocess.Popen(
        [sys.executable, "-m", "kerastag", "stream", *command],
        stdin=subprocess.PIPE,
        env={**os.environ, **login, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert stream.stdin is not None
        stream.stdin.write(bytes(2 * 16_000 * 12))
        stream.stdin.flush()
        wait_for(lambda: subscriber.get_last("kitchen/status") == "online")

        def find_discovery() -> list[str]:
            messages = list(subscriber.messages)
            return [payload for topic, payload, _ in messages if topic.startswith("homeassistant/")]

        wait_for(find_discovery)
        assert all(name in "".join(find_discovery()) for name in ("Dog bark", "Baby cry"))
    finally:
        stream.kill()
        stream.wait()
        stream.stdin.close()
        subscriber.close()
        broker.kill()
