"""Streams: bad input, brokers and disks that fail, sources that are lost, passwords, and memory.

A stream must go on, or end with one line; memory must not grow, and nothing may be lost in silence.
"""

import io
import itertools
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
from edge.passwords import find_pieces, generate_passwords
from edge.sinks.reports import create_event
from sounds import create_cries

from kerastag.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from kerastag.bundled import BUNDLED_MODEL
from kerastag.edge import StreamingTagger, load_stream_config
from kerastag.edge.sinks import SinkContext, open_sinks
from kerastag.edge.sources import PcmFormat
from kerastag.edge.sources.ffmpeg import check_url, remove_secrets
from kerastag.edge.sources.pcm import read_pcm_blocks

_RATE = 16_000
_Row = tuple[str, int, int, str]


def run(quick: bool) -> Iterator[_Row]:
    """Run streams; `quick` processes minutes of audio where it is hours otherwise."""
    yield _measure_memory(hours=0.05 if quick else 3.2)
    yield _process_rates(step=8 if quick else 1)
    yield _try("stream, bad PCM and WAV headers", _create_headers())
    yield _try("stream, recorder: channels and rates", _create_recorders())
    yield _try("stream, wrong configurations", _create_configurations())
    yield _try("stream, passwords in URLs", (_create_password_test(each) for each in generate_passwords(200)))
    yield _try("stream, disk full for JSON, CSV and recordings", [_fill_disk])
    if shutil.which("ffmpeg"):
        yield _try("stream, a source that stalls", [_stall_source])
    if shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin"):
        yield _try("stream, broker down, killed and back; 1,500 events", [_stop_broker])


def _try(test: str, tries: Iterator[Callable[[], None]] | list[Callable[[], None]]) -> _Row:
    """Count the tries that raise an error; the message of an AssertionError describes the failure."""
    count, reasons = 0, []
    for attempt in tries:
        count += 1
        try:
            attempt()
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {error}"[:100])
    return test, count, len(reasons), "; ".join(sorted(set(reasons)))


def _refuses(action: Callable[[], object]) -> Callable[[], None]:
    """Return a test that an action raises a ValueError of one line."""

    def test() -> None:
        try:
            action()
        except ValueError as error:
            text = str(error)
        else:
            raise AssertionError("accepted")
        assert text
        assert "\n" not in text

    return test


def _generate_pcm(seconds: float) -> bytes:
    """Return faint noise with two cries of a baby in every eight seconds."""
    waveform = np.random.default_rng(0).normal(0, 3e-4, round(seconds * _RATE))
    cries = create_cries(2, _RATE)
    for start in range(3 * _RATE, len(waveform) - len(cries), 8 * _RATE):
        waveform[start : start + len(cries)] += cries
    return (32_767 * waveform).astype("<i2").tobytes()


def _start_stream(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kerastag", "stream", "--threshold", "0.05", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def _measure_memory(hours: float) -> _Row:
    """Stream to every output at once, and compare the memory at a tenth of the time with that at the end."""
    minute, reasons = _generate_pcm(60), []
    with tempfile.TemporaryDirectory() as folder:
        outputs = f"json:{folder}/a.jsonl,csv:{folder}/a.csv,record:{folder}/clips,terminal"
        process = _start_stream("--source", "-", "--output", outputs, stdin=subprocess.PIPE)
        assert process.stdin is not None
        threading.Thread(target=process.stdout.read, daemon=True).start()  # type: ignore[union-attr]
        resident = []
        for _ in range(round(60 * hours)):
            process.stdin.write(minute)
            process.stdin.flush()
            statm = Path(f"/proc/{process.pid}/statm")
            resident.append(int(statm.read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        process.stdin.close()
        process.wait()
        lines = [json.loads(line) for line in Path(folder, "a.jsonl").read_text(encoding="utf-8").splitlines()]
    first = resident[len(resident) // 10]
    if process.returncode or not lines or max(resident[len(resident) // 10 :]) > 1.1 * first:
        reasons.append(
            f"status {process.returncode}, {len(lines)} lines, {first / 1e6:.0f} to {max(resident) / 1e6:.0f} MB"
        )
    return f"stream, memory of every output, {hours:g} h", 1, len(reasons), "".join(reasons)


def _process_rates(step: int) -> _Row:
    rates = np.geomspace(MIN_SAMPLE_RATE, MAX_SAMPLE_RATE, 21).round().astype(int).tolist()

    def create_test(rate: int, block_seconds: float) -> Callable[[], None]:
        def test() -> None:
            tagger, block = StreamingTagger(BUNDLED_MODEL), max(1, round(block_seconds * rate))
            samples = np.random.default_rng(0).normal(0, 0.1, 2 * rate).astype(np.float32)
            starts = range(0, len(samples), block)
            results = [result for start in starts for result in tagger.feed(samples[start : start + block], rate)]
            results += tagger.flush()
            assert abs(results[-1].end_seconds - 2) < 0.05, f"{rate} Hz: {results[-1].end_seconds} s"
            assert np.isfinite(results[-1].probabilities).all()

        return test

    pairs = list(itertools.product(rates, (0.011, 0.1, 1.7)))[::step]
    return _try("stream, sample rates and blocks", [create_test(rate, seconds) for rate, seconds in pairs])


def _create_headers() -> Iterator[Callable[[], None]]:
    def pack(kind: bytes, size: int, body: bytes = b"") -> bytes:
        return kind + struct.pack("<I", size) + body

    def pack_format(tag: int = 1, channels: int = 1, rate: int = _RATE, bits: int = 16) -> bytes:
        return pack(b"fmt ", 16, struct.pack("<HHIIHH", tag, channels, rate, 2 * rate % 2**32, 2, bits))

    riff = b"RIFF\xff\xff\xff\xffWAVE"
    headers = [
        riff,
        riff + pack(b"data", 100, bytes(100)),
        riff + pack(b"fmt ", 4, bytes(4)),
        riff + pack(b"LIST", 2**32 - 1) + bytes(1 << 22),
        riff + bytes(1 << 22),  # chunks without an end
        riff + pack_format(tag=7) + pack(b"data", 100),
        riff + pack_format(channels=0) + pack(b"data", 100),
        riff + pack_format(rate=0) + pack(b"data", 100),
        riff + pack_format(rate=2**32 - 1) + pack(b"data", 100),
        riff + pack_format(bits=12) + pack(b"data", 100),
        b"fLaC" + bytes(100),
    ]
    for header in headers:
        read = io.BytesIO(header + bytes(1_000)).read
        yield _refuses(lambda read=read: list(read_pcm_blocks(read, PcmFormat(), "pipe", live=False)))


def _create_recorders() -> Iterator[Callable[[], None]]:
    def create_test(rate: int, channels: int) -> Callable[[], None]:
        def test() -> None:
            with tempfile.TemporaryDirectory() as folder:
                lines: list[str] = []
                sinks = open_sinks([f"record:{folder}"], SinkContext(lines.append))
                for number in range(10):
                    sinks.write_audio(np.zeros((rate // 10, channels), np.float32), rate, (number + 1) / 10)
                sinks.write_event(create_event("Bark", 0.2))
                sinks.close()
                assert len(list(Path(folder).iterdir())) == 1, f"{rate} Hz, {channels} channels: no recording"
                assert not lines, lines[0]

        return test

    for rate, channels in ((8_000, 2), (8_000, 8), (8_000, 9), (8_000, 16), (8_000, 64), (1_000_000, 1)):
        yield create_test(rate, channels)


def _create_configurations() -> Iterator[Callable[[], None]]:
    fields = ("smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds", "hop_seconds")
    fields += ("queue_seconds", "timeout_seconds", "silence_hours", "stats", "threads", "top", "rate", "channels")
    texts = [f"{name} = {value}" for name in fields for value in ("nan", "inf", "-1", "1e308", "0x" + "f" * 5_000)]
    texts += ["x = " + "[" * 5_000, "top = " + "9" * 5_000, "\udcff", 'output = ["mqtt://"]', "thresholds = {a = inf}"]

    def load(text: str) -> None:
        with tempfile.NamedTemporaryFile(suffix=".toml") as file:
            Path(file.name).write_bytes(text.encode(errors="surrogateescape"))
            open_sinks(load_stream_config(file.name, {}).output, SinkContext())

    for text in texts:
        yield _refuses(lambda text=text: load(text))
    options = {"json:a": "max_megabytes", "csv:a": "kept_files", "terminal": "events", "record:a": "delay_seconds"}
    for (address, option), value in itertools.product(options.items(), (float("nan"), float("inf"), -1, 10**400)):
        yield _refuses(lambda output={"to": address, option: value}: open_sinks([output], SinkContext()))


def _create_password_test(password: str) -> Callable[[], None]:
    def test() -> None:
        texts = [remove_secrets(f"rtsp://me:{quote(password, safe='')}@camera/live?token={quote(password, safe='')}")]
        for action in (
            lambda: check_url(f"rtsp://me:{password}@camera/live"),
            lambda: open_sinks([f"mqtt://me:{password}@broker/topic"], SinkContext()),
            lambda: open_sinks([f"http://me:{password}@broker/topic"], SinkContext()),
        ):
            try:
                action()
            except ValueError as error:
                texts.append(str(error))
        assert len(texts) == 4, "accepted"
        pieces = [piece for text in texts for piece in find_pieces(password, text)]
        assert not pieces, f"printed: {pieces[0]}"

    return test


def _fill_disk() -> None:
    with tempfile.TemporaryDirectory() as folder:
        outputs = f"json:{folder}/a.jsonl,csv:{folder}/a.csv,record:{folder}/clips"

        def limit_files() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))

        process = _start_stream("--source", "-", "--output", outputs, stdin=subprocess.PIPE, preexec_fn=limit_files)
        errors = process.communicate(_generate_pcm(60), timeout=120)[1].decode()
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert all(json.loads(line) for line in Path(folder, "a.jsonl").read_text(encoding="utf-8").splitlines())
        assert Path(folder, "a.csv").read_text(encoding="utf-8").endswith("\n")
        assert not list(Path(folder, "clips").iterdir())


def _stall_source() -> None:
    """Serve rain that stops without an end: its event must end within the timeout, and the source must be lost."""
    data = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, _RATE, 2 * _RATE, 2, 16)
    data += b"data\xff\xff\xff\xff" + (np.random.default_rng(0).normal(0, 5_000, 10 * _RATE)).astype("<i2").tobytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            client.recv(4_096)
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: audio/wav\r\n\r\n" + data)
            time.sleep(30)
            client.close()

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.wav"
        arguments = ("--source", url, "--realtime", "--timeout-seconds", "2", "--output", "json:-")
        process = _start_stream(*arguments)
        timer = threading.Timer(20, process.kill)
        timer.start()
        states = []
        for line in process.stdout or ():
            report = json.loads(line)
            if report["type"] != "result":
                states.append(report["state"])
            if states[-1:] == ["lost"]:
                break
        timer.cancel()
        process.kill()
        process.communicate()
    assert states[-1:] == ["lost"], "the source is not reported as lost"
    assert states.count("begin") == states.count("end") > 0, "an event goes on"


def _stop_broker() -> None:
    from edge.models import wait_for
    from edge.sinks.brokers import Broker, Subscriber

    from kerastag.edge.sinks.mqtt import MqttSink

    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder), "allow_anonymous true", "persistence true", f"persistence_location {folder}/")
        lines: list[str] = []
        subscriber = Subscriber(broker, client_id="test")
        sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/test", ("Bark",), lines.append)
        wait_for(sink._client.is_connected)
        broker.process.terminate()
        wait_for(lambda: lines)
        for number in range(1_500):
            sink.write_event(create_event("Bark", float(number)))
        broker.kill()
        broker.start()
        wait_for(lambda: len(set(subscriber.get_payloads("test/event"))) == 1_000, 60.0)
        wait_for(lambda: any("500 events were dropped" in line for line in lines))
        sink.close()
        wait_for(lambda: subscriber.get_last("test/status") == "offline")
        subscriber.close()
        broker.kill()
