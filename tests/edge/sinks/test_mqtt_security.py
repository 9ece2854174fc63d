"""Passwords and TLS of the MQTT sink, with a real mosquitto that requires them."""

import re
import shlex
import shutil
import socket
import subprocess
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from edge.models import wait_for
from edge.passwords import find_pieces, generate_passwords
from edge.sinks.brokers import Subscriber, create_sink
from edge.sinks.reports import create_event

from checks import ROOT
from kerastag.cli import main
from kerastag.edge.sinks.mqtt import MqttSink

pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")


def test_a_password_is_sent_and_never_printed(start, tmp_path, monkeypatch):
    passwords = tmp_path / "passwords"
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs the program mosquitto_passwd")
    subprocess.run([program, "-b", "-c", passwords, "ear", "secret-1"], check=True)
    passwords.chmod(0o644)
    broker = start("allow_anonymous false", f"password_file {passwords}")
    lines = []
    wrong = create_sink(broker, lines, username="ear", password="secret-2")
    wait_for(lambda: lines)
    assert lines == [
        f"mqtt 127.0.0.1:{broker.port}: refuses the connection: Not authorized; "
        "it is retried, and up to 1000 messages are queued"
    ]
    wrong.close()
    monkeypatch.setenv("KERASTAG_MQTT_USERNAME", "ear")
    monkeypatch.setenv("KERASTAG_MQTT_PASSWORD", "secret-1")
    subscriber = Subscriber(broker, username="ear", password="secret-1")
    right = create_sink(broker, lines)
    wait_for(lambda: subscriber.get_last("home/kitchen/status") == "online")
    right.close()
    in_url = MqttSink(f"mqtt://ear:secret-1@127.0.0.1:{broker.port}/in/url", (), lines.append)
    wait_for(lambda: subscriber.get_last("in/url/status") == "online")
    assert "secret" not in in_url.name
    in_url.close()
    subscriber.close()
    assert not any("secret" in line for line in lines)


def test_random_passwords_are_never_printed():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for password in generate_passwords(10):
        lines = []
        encoded = quote(password, safe="")
        sink = MqttSink(f"mqtt://me:{encoded}@127.0.0.1:{port}/topic", (), lines.append)
        sink.write_event(create_event())
        sink.close()
        assert lines
        assert not find_pieces(password, f"{sink.name} {lines}")
        assert not find_pieces(encoded, f"{sink.name} {lines}")


def test_an_invalid_url_is_refused_without_printing_its_password():
    urls = ["://", ":///topic", "://host:0x/topic", "://host:70000/topic", "://me:secret@host/a/#", "://[secret/x"]
    urls += [f"://me:{password}@host/topic" for password in ("1/secret", "1#secret", "1?secret", "secret/x", "secret#")]
    for url in urls:
        with pytest.raises(
            ValueError, match=r"`output` must be mqtt://HOST\[:PORT\]/TOPIC.*received: mqtt"
        ) as error_info:
            MqttSink(f"mqtt{url}")
        assert "secret" not in str(error_info.value)
        assert "percent-encoded" in str(error_info.value)


class Authority:
    """A certificate authority, made with openssl, that issues certificates."""

    def __init__(self, folder):
        program = shutil.which("openssl")
        if program is None:
            pytest.skip("needs the program openssl")
        self.program, self.folder, self.certificate = program, folder, folder / "authority.pem"
        self.run("req", "-x509", *self.create_key("authority"), "-subj", "/CN=test", "-out", self.certificate)

    def create_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]

    def run(self, *arguments):
        subprocess.run([self.program, *arguments], check=True, capture_output=True, cwd=self.folder)

    def issue(self, name, alternative):
        """Return the paths of a certificate for a host name or an address, and of its key."""
        self.run("req", *self.create_key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternative}", encoding="utf-8")
        authority = ["-CA", self.certificate, "-CAkey", "authority.key", "-CAcreateserial", "-days", "2"]
        self.run("x509", "-req", "-in", f"{name}.csr", *authority, "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        (self.folder / f"{name}.key").chmod(0o644)
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def try_to_connect(broker, **options):
    """Return the first message of a sink, or nothing if it connects."""
    lines = []
    sink = MqttSink(f"mqtts://127.0.0.1:{broker.port}/tls", (), lines.append, **options)
    wait_for(lambda: sink._client.is_connected() or lines)
    sink.close()
    return lines[0].partition(": ")[2] if lines else ""


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_checks_the_authority_and_the_name_in_the_certificate(start, authority):
    certificate, key = authority.issue("broker", "DNS:broker.home")
    broker = start("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    ca_file = str(authority.certificate)
    assert not try_to_connect(broker, ca_file=ca_file, server_name="broker.home")
    message = try_to_connect(broker, ca_file=ca_file)
    assert message.startswith("has a certificate that is not trusted (IP address mismatch")
    assert "`server_name` can be the name in its certificate" in message
    message = try_to_connect(broker, server_name="broker.home")
    assert "`ca_file` must be the certificate of its authority; received: None" in message
    message = try_to_connect(broker, ca_file=certificate, server_name="broker.home")
    assert f"`ca_file` must be the certificate of its authority; received: {certificate}" in message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_can_require_a_client_certificate(start, authority):
    certificate, key = authority.issue("localhost", "IP:127.0.0.1")
    client_certificate, client_key = authority.issue("client", "DNS:client")
    files = [f"certfile {certificate}", f"keyfile {key}", f"cafile {authority.certificate}"]
    broker = start("allow_anonymous true", *files, "require_certificate true", "tls_version tlsv1.2")
    options = {"ca_file": str(authority.certificate), "client_certificate": client_certificate}
    assert not try_to_connect(broker, **options, client_key=client_key)
    assert "it may require `client_certificate`" in try_to_connect(broker, ca_file=options["ca_file"])


def test_files_for_tls_are_checked_at_the_start(tmp_path, authority):
    certificate, key = authority.issue("other", "DNS:other")
    text, encrypted = tmp_path / "text.pem", tmp_path / "encrypted.key"
    text.write_text("hello", encoding="utf-8")
    authority.run("ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", encrypted)
    for options, message in (
        ({"ca_file": "gone.pem"}, r"gone.pem: no such file \(`ca_file`\)"),
        ({"ca_file": str(text)}, "text.pem: `ca_file` must be certificates in PEM format"),
        ({"client_certificate": "gone.pem"}, r"gone.pem: no such file \(`client_certificate`\)"),
        (
            {"client_certificate": certificate},
            "other.pem: `client_certificate` must be a certificate in PEM format with",
        ),
        ({"client_certificate": certificate, "client_key": str(encrypted)}, "the key is encrypted"),
        ({"client_key": key}, "`client_key` must be used with `client_certificate`"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            MqttSink("mqtts://127.0.0.1:1/tls", **options)
    with pytest.raises(ValueError, match="`server_name` must be used with mqtts://; received: mqtt://"):
        MqttSink("mqtt://127.0.0.1:1/tls", server_name="other")


def test_the_commands_of_the_page_publish_the_state_of_a_stream(start, authority, tmp_path, monkeypatch, capsys):
    """Those of docs/stream.md, whose microphone is a recording, and whose broker is on this machine."""
    certificate, key = authority.issue("server", "IP:127.0.0.1,DNS:broker.home")
    client_certificate, client_key = authority.issue("me", "DNS:me")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))  # for the command without --mqtt-ca-file
    monkeypatch.chdir(tmp_path)
    for path, name in ((authority.certificate, "ca.pem"), (client_certificate, "me.pem"), (client_key, "me.key")):
        shutil.copyfile(path, name)
    soundfile.write("sound.wav", np.zeros(64_000, np.float32), 32_000)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = [f"certfile {certificate}", f"keyfile {key}", f"cafile {authority.certificate}"]
    broker = start("allow_anonymous true", f"listener {port} 127.0.0.1", *files)
    page = (ROOT / "docs/stream.md").read_text(encoding="utf-8")
    block = page.split("<!-- run in tests/edge/sinks/test_mqtt_security.py -->\n```\n")[1].split("```")[0]
    states = Subscriber(broker)
    for line in block.splitlines():
        used = port if "mqtts://" in line else broker.port
        line = re.sub("broker(?=/)|10[.]0[.]0[.]2", f"127.0.0.1:{used}", line).replace("mic ", "sound.wav ")
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    wait_for(lambda: len(states.get_payloads("kitchen/status")) == 8)
    assert states.get_payloads("kitchen/status") == ["online", "offline"] * 4
    assert states.get_payloads("kitchen/rain/state")
    states.close()
