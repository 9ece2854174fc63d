"""`kerastag stream` as a process: its pipes, its signals and its exit status."""

import contextlib
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from edge.models import wait_for
from edge.passwords import find_pieces, generate_passwords
from edge.sinks.brokers import MOSQUITTO, Broker, Subscriber
from edge.test_service import EVENTS, RATE, generate_tones

from checks import ROOT, run_python
from kerastag.__main__ import main

PCM = (generate_tones() * 32_767).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "tones.wav"
    path.write_bytes(b"")
    soundfile.write(path, generate_tones(), RATE)
    return str(path)


@contextlib.contextmanager
def start_stream(model, *arguments, environment=None, **options):
    """Start the command, and kill it at the end of the test."""
    command = [sys.executable, "-m", "kerastag", "stream", "--model", str(model), "--hop-seconds", "0.5", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def run_in_process(model, arguments, capfd, output=("--output", "json:-"), input=b""):
    """Run the command in this process, which has imported everything already."""
    command = ["stream", "--model", str(model), "--hop-seconds", "0.5", *output, *arguments]
    original = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(input)
        file.seek(0)
        os.dup2(file.fileno(), 0)
    try:
        status = main(command)
    finally:
        os.dup2(original, 0)
        os.close(original)
    out, err = capfd.readouterr()
    return status, out.splitlines(), read_messages(err.encode())


def read_messages(err):
    lines = (err or b"").decode().splitlines()
    assert not [line for line in lines if "Traceback" in line or "Exception ignored" in line], lines
    return [line for line in lines if line.startswith("kerastag")]


def read_events(lines):
    values = [json.loads(line) for line in lines]
    return [(v["name"], v["state"], round(v["onset_seconds"], 1)) for v in values if v["type"] == "event"]


def test_a_recording_and_its_raw_samples_have_the_same_events(loud_model, recording, capfd):
    status, from_file, messages = run_in_process(loud_model, ("--source", recording, "--stats"), capfd)
    assert status == 0
    assert read_events(from_file) == EVENTS
    assert [line.split(",")[0] for line in messages] == ["kerastag stream: stats: processed 6.0 s"]
    status, from_pipe, messages = run_in_process(loud_model, ("--source", "-"), capfd, input=PCM)
    assert (status, messages) == (0, [])
    assert read_events(from_pipe) == EVENTS
    assert all("time" not in json.loads(line) for line in from_file + from_pipe)


def test_flags_override_the_configuration_file(loud_model, recording, tmp_path, capfd):
    config = tmp_path / "stream.toml"
    config.write_text(
        f'source = "{recording}"\nclasses = ["Rain"]\ntop = 1\n[[output]]\nto = "csv:{tmp_path}/a.csv"\n',
        encoding="utf-8",
    )
    arguments = ("--config", str(config), "--classes", "Bark", "Rain")
    assert run_in_process(loud_model, arguments, capfd, output=())[0] == 0
    rows = [line.split(",") for line in (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert [(row[4], row[0]) for row in rows if row[0] != "result"] == [event[:2] for event in EVENTS]
    assert len([row for row in rows if row[0] == "result"]) == 12


def test_a_signal_ends_the_last_event_and_the_stream(loud_model, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        arguments = ("--source", "-", "--realtime", "--output", f"json:-,json:{tmp_path}/a.jsonl")
        with start_stream(loud_model, *arguments, environment=environment) as process:
            process.stdin.write(PCM[: 3 * 2 * RATE])  # the low tone goes on
            process.stdin.flush()
            lines = []
            while not read_events(lines):
                lines.append(process.stdout.readline().decode())
            (tmp_path / "a.jsonl").rename(tmp_path / "old.jsonl")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert read_messages(err) == []
        lines += out.decode().splitlines()
        assert read_events(lines) == EVENTS[:2]
        last = json.loads(lines[-1])
        assert last["offset_seconds"] == pytest.approx(3.0, abs=0.1)
        assert last["time"].endswith("Z")
        assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
        assert (tmp_path / "old.jsonl").read_text(encoding="utf-8").splitlines() == [line.strip() for line in lines]


def test_a_hangup_reopens_the_files_and_an_interrupt_ends_the_stream(loud_model, tmp_path):
    path = tmp_path / "a.jsonl"
    with start_stream(loud_model, "--source", "-", "--realtime", "--output", f"json:{path},json:-") as process:
        process.stdin.write(PCM[: 2 * 2 * RATE])
        process.stdin.flush()
        for _ in range(3):
            process.stdout.readline()
        path.rename(tmp_path / "old.jsonl")
        process.send_signal(signal.SIGHUP)
        process.stdin.write(PCM[2 * 2 * RATE :])
        process.stdin.flush()
        lines = []
        while not read_events(lines)[2:]:
            lines.append(process.stdout.readline().decode())
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert read_messages(err) == []
    assert read_events(path.read_text(encoding="utf-8").splitlines())[-1] == EVENTS[-1]
    assert len((tmp_path / "old.jsonl").read_text(encoding="utf-8").splitlines()) >= 3


def test_a_reader_that_leaves_is_not_an_error(loud_model):
    with start_stream(loud_model, "--source", "-", "--output", "json:-") as process:
        process.stdin.write(PCM[: 2 * 2 * RATE])
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            for _ in range(20):
                process.stdin.write(PCM)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(30)
        err = process.stderr.read()
    assert process.returncode == 0
    assert read_messages(err) == []


def test_a_full_disk_is_reported_once_and_the_stream_continues(loud_model, recording, tmp_path):
    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))

    outputs = f"json:-,json:{tmp_path}/a.jsonl,record:{tmp_path}/clips"
    arguments = ("--source", recording, "--output", outputs)
    with start_stream(loud_model, *arguments, preexec_fn=limit_file_size) as process:
        out, err = process.communicate(timeout=60)
    messages = read_messages(err)
    assert process.returncode == 0
    assert read_events(out.decode().splitlines()) == EVENTS
    assert [line for line in messages if "a.jsonl" in line] == [
        f"kerastag stream: {tmp_path}/a.jsonl: [Errno 27] {tmp_path}/a.jsonl: File too large; the stream "
        "continues without this output until it works again"
    ]
    assert len([line for line in messages if "Bark.flac could not be written (File too large)" in line]) == 1
    assert all(json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines())
    assert not list((tmp_path / "clips").iterdir())


def test_a_damaged_recording_is_processed_as_far_as_possible(loud_model, recording, tmp_path, capfd):
    data = Path(recording).read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    status, lines, messages = run_in_process(loud_model, ("--source", str(tmp_path / "cut.wav")), capfd)
    assert status == 0
    assert read_events(lines) == EVENTS[:2]
    assert len(messages) == 1
    assert "cut.wav: truncated or damaged; using 3.00 s of the 6.00 s in its header" in messages[0]


@pytest.mark.skipif(MOSQUITTO is None, reason="needs the program mosquitto (apt install mosquitto)")
def test_a_broker_that_dies_and_a_stream_that_dies(loud_model, tmp_path):
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")
    broker = Broker(tmp_path)
    url = f"mqtt://127.0.0.1:{broker.port}/ear"
    subscriber = Subscriber(broker)
    arguments = ("--source", "-", "--output", f"json:-,{url}", "--classes", "Bark", "Rain")
    with start_stream(loud_model, *arguments) as process:
        process.stdin.write(PCM[: 3 * 2 * RATE])
        process.stdin.flush()
        wait_for(lambda: subscriber.get_last("ear/bark/state") == "ON")
        subscriber.close()
        broker.kill()
        process.stdin.write(PCM[3 * 2 * RATE :])
        process.stdin.flush()
        lines = []
        while len(read_events(lines)) < 3:  # the stream continues
            lines.append(process.stdout.readline().decode())
        broker.start()
        subscriber = Subscriber(broker)
        wait_for(lambda: subscriber.get_last("ear/status") == "online")
        wait_for(lambda: subscriber.get_last("ear/rain/state") == "ON")
        assert subscriber.get_last("ear/bark/state") == "OFF"
        process.kill()
        wait_for(lambda: subscriber.get_last("ear/status") == "offline")  # published by the broker
        messages = read_messages(process.stderr.read())
    assert [line.split(":", 3)[-1] for line in messages] == [
        " connection lost (Unspecified error); it is retried, and up to 1000 messages are queued",
        " is back",
    ]
    subscriber.close()
    broker.kill()


def serve_radio(server, ends):
    """Send 12 s with a tone in the last four to each client, and then nothing until the test is over, or the end."""
    clients = []
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            clients.append(client)
            client.recv(4_096)
            header = create_wav_header(100 * len(PCM))
            silence, tone = PCM[: 1 * 2 * RATE], PCM[2 * 2 * RATE : 4 * 2 * RATE]
            # More than ffmpeg reads to find the format.
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: audio/wav\r\n\r\n" + header + 8 * silence + 2 * tone)
            if ends:
                client.close()
    for client in clients:
        client.close()


def create_wav_header(size):
    format_chunk = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + format_chunk + b"data" + struct.pack("<I", size)


@pytest.mark.skipif(MOSQUITTO is None, reason="needs the program mosquitto (apt install mosquitto)")
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
@pytest.mark.parametrize("ends", [False, True])
def test_a_radio_that_stalls_or_ends_is_lost_and_then_listening(loud_model, tmp_path, ends):
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt (extra `mqtt`)")
    broker = Broker(tmp_path)
    subscriber = Subscriber(broker)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve_radio, args=(server, ends), daemon=True).start()
        source = f"http://me:secret@127.0.0.1:{server.getsockname()[1]}/x.wav"
        outputs = f"json:-,mqtt://127.0.0.1:{broker.port}/ear"
        arguments = ("--source", source, "--realtime", "--classes", "Bark", "--timeout-seconds", "0.7")
        with start_stream(loud_model, *arguments, "--output", outputs) as process:
            lines = []
            threading.Timer(20.0, process.kill).start()  # so that a bug does not hang
            while [line for line in lines if '"source"' in line][2:] == []:
                lines.append(process.stdout.readline().decode())
                assert lines[-1]
            wait_for(lambda: subscriber.get_payloads("ear/source")[3:])
            process.send_signal(signal.SIGTERM)
            err = process.communicate(timeout=30)[1]
        server.shutdown(socket.SHUT_RDWR)
    reports = [json.loads(line) for line in lines if '"result"' not in line]
    states = [report["state"] for report in reports]
    assert states[:4] == ["listening", "begin", "end", "lost"]
    assert [state for state in states if state not in ("begin", "end")] == ["listening", "lost", "listening"]
    # An event of the tone that goes on ends within the timeout, at the end of the audio.
    assert reports[2]["offset_seconds"] == pytest.approx(12.0, abs=0.15)
    assert subscriber.get_payloads("ear/source")[:4] == ["lost", "listening", "lost", "listening"]
    assert subscriber.get_payloads("ear/bark/state")[:3] == ["OFF", "ON", "OFF"]
    messages = read_messages(err)
    name = f"kerastag stream: {source.replace('me:secret@', '')}"
    assert f"{name}: no audio for 0.7 s; the source is lost, and its events have ended" in messages
    assert f"{name}: listening again" in messages
    assert "secret" not in "".join([*messages, *lines])
    subscriber.close()
    broker.kill()


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("<&-", "standard input: must be a pipe of raw PCM or WAV; received: a closed descriptor"),
        (">&-", "`output` must be a file, as standard output is closed; received: -"),
    ],
)
def test_a_closed_descriptor_is_an_error(loud_model, closed, message):
    command = shlex.join([sys.executable, "-m", "kerastag", "stream", "--model", str(loud_model), "--source", "-"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shell = ["sh", "-c", f"{command} --output json:- {closed}"]
    result = subprocess.run(shell, env=environment, input=PCM, capture_output=True, check=False, timeout=60)
    assert result.returncode == 1
    assert read_messages(result.stderr) == [f"kerastag stream: error: {message}"]


def test_a_password_in_a_url_is_never_printed(loud_model, tmp_path, capfd):
    config = tmp_path / "stream.toml"
    for password in generate_passwords(10):  # The parts have been tried with 200 of them.
        url = f"rtsp://me:{password}@127.0.0.1:1/live"
        config.write_text(f"output = [1, {json.dumps(url)}]\n", encoding="utf-8")
        for arguments in (
            ("--source", url),
            ("--source", "-", "--output", f"mqtt://me:{password}@127.0.0.1:1/topic"),
            ("--source", "-", "--output", f"xml://me:{password}@127.0.0.1:1/topic"),
            ("--config", str(config)),
            (url,),
            ("--top", url),
            ("--sorce", url),
        ):
            with contextlib.suppress(SystemExit):
                assert main(["stream", "--model", str(loud_model), *arguments]) == 1
            text = "".join(capfd.readouterr())
            assert "error: " in text
            assert not find_pieces(password, text), (arguments, text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--source", "gone.wav"), "gone.wav: no such file"),
        (("--config", "gone.toml"), "gone.toml: no such configuration file"),
        (("--source", "-", "--classes", "Brk"), "`classes` must be one of 3 classes; received: 'Brk'"),
        (("--source", "-"), "standard input: must have at least one sample; received: none"),
        (("--source", "http://127.0.0.1:1/x"), "ffmpeg ended with status"),
    ],
)
def test_an_error_is_one_line_and_a_status(loud_model, arguments, message, capfd):
    if "ffmpeg" in message and shutil.which("ffmpeg") is None:
        pytest.skip("needs the program ffmpeg")
    status, out, messages = run_in_process(loud_model, arguments, capfd)
    assert (status, out) == (1, [])
    assert len(messages) == 1
    assert messages[0].startswith("kerastag stream: error: ")
    assert message in messages[0]


def test_a_file_that_is_not_a_model_is_an_error(tmp_path, capfd):
    (tmp_path / "text.tflite").write_text("hello", encoding="utf-8")
    for name, message in (("text.tflite", "text.tflite"), ("gone.tflite", "no such model")):
        status, _, messages = run_in_process(tmp_path / name, ("--source", "-"), capfd)
        assert status == 1
        assert len(messages) == 1
        assert message in messages[0]


def test_repeated_and_separated_outputs_are_all_opened(loud_model, recording, tmp_path, capfd):
    paths = [tmp_path / name for name in ("a.jsonl", "b.csv", "c.jsonl")]
    arguments = ("--source", recording, "--output", f"json:{paths[0]},csv:{paths[1]}", "--output", f"json:{paths[2]}")
    assert run_in_process(loud_model, arguments, capfd)[0] == 0
    assert all(path.stat().st_size for path in paths)


def test_no_framework_is_loaded(loud_model, recording):
    code = f"""
import sys
from kerastag.__main__ import main
status = main(["stream", "--model", {str(loud_model)!r}, "--source", {recording!r}, "--output", "terminal"])
heavy = ("keras", "tensorflow", "scipy", "sklearn", "h5py", "paho", "sounddevice")
print(status, [name for name in heavy if name in sys.modules])
"""
    lines = run_python(code).strip().splitlines()
    assert lines[-1] == "0 []"
    assert [line.split()[2] for line in lines[:-1]] == ["Bark", "Bark", "Rain", "Rain"]
    assert np.all([line.isprintable() for line in lines])
