"""Tests of limits, access, and the end of a server."""

import concurrent.futures
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from serving.servers import SAMPLE_RATE, RunningServer, create_waveform, encode, run_server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from checks import ROOT, run_python
from kerastag.cli import main

CLIP = encode(create_waveform(2.0))
MINUTES = encode(np.tile(create_waveform(60.0), 10), format="FLAC")
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def limited():
    """Return a server with small limits."""
    arguments = {
        "--max-body-mb": "2",
        "--max-duration-seconds": "30",
        "--max-connections": "20",
        "--header-timeout-seconds": "1",
        "--upload-timeout-seconds": "1",
    }
    with run_server(*(part for pair in arguments.items() for part in pair)) as running:
        yield running


def tag(server, content=CLIP, **options):
    return httpx.post(f"{server.url}/v1/tag", content=content, timeout=60, **options)


def get_code(response):
    error = response.json()["error"]
    assert error.keys() == {"code", "message"}
    assert "\n" not in error["message"]
    return response.status_code, error["code"]


def open_connection(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def send(server, text, seconds=20.0):
    """Send bytes as they are, and return all that comes back."""
    with open_connection(server) as connection:
        connection.sendall(text)
        connection.settimeout(seconds)
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65_536):
                received += part
        return received


def test_a_body_that_is_too_large_is_refused_with_and_without_a_length(limited):
    assert get_code(tag(limited, bytes(3_000_000))) == (413, "too_large")
    assert get_code(tag(limited, iter([bytes(1_000_000)] * 3))) == (413, "too_large")
    huge = send(limited, b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n")
    assert huge.startswith(b"HTTP/1.1 413 ")
    form = {"file": ("a.wav", bytes(2_500_000))}
    assert get_code(httpx.post(f"{limited.url}/v1/tag", files=form)) == (413, "too_large")


def test_lying_lengths_end_with_an_answer_or_a_closed_connection(limited):
    head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    short = send(limited, head + b"Content-Length: 100000\r\n\r\n" + CLIP[:100])
    assert short.startswith(b"HTTP/1.1 408 ")
    long = send(limited, head + b"Content-Length: 40\r\n\r\n" + CLIP)
    assert long.startswith(b"HTTP/1.1 4")
    both = send(limited, head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert both.startswith(b"HTTP/1.1 4")
    assert tag(limited).status_code == 200


def test_a_recording_that_is_too_long_is_refused_although_its_file_is_small(limited):
    silence = encode(np.zeros(3_600 * 8_000, np.int16), 8_000, format="FLAC")
    assert len(silence) < 200_000
    start = time.monotonic()
    response = tag(limited, silence)
    assert get_code(response) == (413, "too_long")
    assert response.json()["error"]["message"] == "recording: must be at most 30 s long; it is longer"
    assert time.monotonic() - start < 20


def test_what_is_not_audio_and_what_is_damaged_have_a_status_each(limited):
    assert get_code(tag(limited, b"hello, world")) == (415, "unsupported_audio")
    assert get_code(tag(limited, b"")) == (422, "empty")
    waveform = create_waveform(1.0)
    waveform[5_000] = np.nan
    assert get_code(tag(limited, encode(waveform, subtype="FLOAT"))) == (422, "invalid_audio")


def test_a_damaged_form_is_refused(limited):
    def post(content, boundary="boundary=x"):
        headers = {"Content-Type": f"multipart/form-data; {boundary}"}
        return get_code(httpx.post(f"{limited.url}/v1/tag", content=content, headers=headers))

    def create_part(name):
        return b'--x\r\nContent-Disposition: form-data; name="' + name + b'"; filename="a"\r\n\r\nRIFF\r\n'

    assert post(create_part(b"file")) == (400, "bad_form")
    assert post(create_part(b"sound") + b"--x--\r\n") == (422, "no_file")
    assert post(create_part(b"file") + b"--x--\r\n", "charset=utf-8") == (400, "bad_form")
    assert post(b"no form", "boundary=x") == (400, "bad_form")
    assert post(create_part(b"sound") * 30 + b"--x--\r\n") == (400, "bad_form")


def test_slow_clients_lose_their_connection(limited):
    assert send(limited, b"GET /healthz HTTP/1.1\r\nHost: local") == (
        b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    assert send(limited, b"").startswith(b"HTTP/1.1 408 ")
    body = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nab"
    assert b'"slow_upload"' in send(limited, body)


def test_headers_that_are_too_long_are_refused(limited):
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Filler: " + b"x" * 1_000_000
    assert not send(limited, request + b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_connections_beyond_the_limit_are_refused(limited):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(open_connection(limited))
        with open_connection(limited) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 503 ")
    time.sleep(0.2)
    assert httpx.get(f"{limited.url}/healthz").status_code == 200


def test_a_client_that_leaves_ends_its_work(limited):
    with open_connection(limited) as connection:
        connection.sendall(b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\nab")
    limited.wait_for_line(re.compile(r"kerastag serve: 127.0.0.1 POST /v1/tag 499 .*"))
    metrics = httpx.get(f"{limited.url}/metrics").text
    assert "kerastag_upload_bytes 0.0" in metrics


def test_a_full_queue_is_a_status():
    with (
        run_server("--max-running", "1", "--max-waiting", "0") as server,
        concurrent.futures.ThreadPoolExecutor() as executor,
    ):
        first = executor.submit(tag, server, MINUTES)
        server.wait_for_decoder()
        statuses = set()
        while not first.done():
            response = tag(server)
            statuses.add((response.status_code, response.headers.get("Retry-After")))
        assert first.result().status_code == 200
        assert statuses <= {(200, None), (429, "1")}
        assert (429, "1") in statuses


def test_a_lack_of_time_or_memory_is_a_status():
    with run_server("--request-timeout-seconds", "0.2", "--max-memory-mb", "45") as server:
        assert get_code(tag(server, MINUTES)) == (504, "timeout")
        response = tag(server, bytes(46_000_000))
        assert get_code(response) == (503, "out_of_memory")
        assert response.headers["Retry-After"] == "2"


def test_a_token_is_needed_for_all_but_health_and_the_page(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="utf-8")
    with run_server("--token-file", str(path)) as server:
        for address in ("/healthz", "/readyz", "/"):
            assert httpx.get(server.url + address).status_code == 200
        for address in ("/v1/models", "/metrics", "/v2/models/esc10", "/openapi.json"):
            for headers in ({}, {"Authorization": "Bearer wrong-token"}, {"Authorization": f"Basic {TOKEN}"}):
                response = httpx.get(server.url + address, headers=headers)
                assert response.status_code == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
            assert httpx.get(server.url + address, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert get_code(tag(server)) == (401, "unauthorized")
        address = server.url.replace("http:", "ws:") + "/v1/stream"
        start = {"type": "start", "sample_rate": SAMPLE_RATE}
        for headers, values, kind in (
            ({}, start, "error"),
            ({}, {**start, "token": "wrong-token"}, "error"),
            ({}, {**start, "token": TOKEN}, "ready"),
            ({"Authorization": f"Bearer {TOKEN}"}, start, "ready"),
        ):
            with connect(address, additional_headers=headers) as connection:
                connection.send(json.dumps(values))
                assert json.loads(connection.recv())["type"] == kind
        with (
            pytest.raises(InvalidStatus, match="401"),
            connect(address, additional_headers={"Authorization": "Bearer x"}),
        ):
            pass
    assert TOKEN not in "\n".join(server.lines)


@pytest.mark.parametrize("address", ["/v1/models", "/", "/healthz"])
def test_pages_of_other_sites_are_refused(limited, address):
    own = limited.url.removeprefix("http://")
    for headers, status in (
        ({"Origin": f"http://{own}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": f"evil.example:{own.split(':')[1]}", "Origin": f"http://evil.example:{own.split(':')[1]}"}, 403),
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "a:b:c"}, 400),
    ):
        assert httpx.get(limited.url + address, headers=headers).status_code == status, headers


def test_a_page_of_another_site_opens_no_stream(limited):
    address = limited.url.replace("http:", "ws:") + "/v1/stream"
    with pytest.raises(InvalidStatus, match="403"), connect(address, origin="http://evil.example"):
        pass


def test_hosts_and_origins_can_be_allowed():
    arguments = ("--allowed-host", "sounds.local", "--allowed-origin", "https://example.com")
    with run_server(*arguments) as server:
        headers = {"Host": "sounds.local:8000", "Origin": "https://example.com"}
        response = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://example.com"
        preflight = {
            **headers,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        assert httpx.options(f"{server.url}/v1/tag", headers=preflight).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "`host` must be a loopback address, such as 127.0.0.1, unless"),
        (["--port", "70000"], "`port` must be in [0, 65535]; received: 70000"),
        (["--model", "nothing.tflite"], "`model` must be a file or one of esc10"),
        (["--model", "setup.cfg"], "setup.cfg"),
        (["--model", "a b=esc10"], "the name of a model or a label must be of letters"),
        (["--model", "esc10", "--model", "esc10"], "the models must differ in name or version"),
        (["--model", "a:1=esc10", "--model", "a=esc10"], "the versions of a model must differ; received twice: a 1"),
        (["--token-file", "/dev/null"], "/dev/null: must be a token of at least 8 visible ASCII characters"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["serve", "--port", "0", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kerastag serve: error: {message}")


def test_a_port_in_use_is_one_line(limited):
    command = [sys.executable, "-m", "kerastag", "serve", "--port", limited.url.rpartition(":")[2]]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert result.returncode == 1
    assert "cannot listen on 127.0.0.1 port" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_lets_requests_and_streams_end(number):
    with run_server() as server, concurrent.futures.ThreadPoolExecutor() as executor:
        address = server.url.replace("http:", "ws:") + "/v1/stream"
        url = server.url
        with connect(address) as connection:
            connection.send(json.dumps({"type": "start", "sample_rate": SAMPLE_RATE, "encoding": "FLOAT_LE"}))
            connection.send(create_waveform(2.5).tobytes())
            while json.loads(connection.recv())["type"] != "result":
                pass
            running = executor.submit(tag, server, MINUTES)
            server.wait_for_decoder()
            server.process.send_signal(number)
            server.wait_for_line(re.compile("kerastag serve: ending: .*"))
            refused = httpx.get(f"{url}/v1/models")
            assert get_code(refused) == (503, "shutting_down")
            assert refused.headers["Retry-After"]
            assert httpx.get(f"{url}/healthz").status_code == 200
            assert httpx.get(f"{url}/readyz").status_code == 503
            messages = [json.loads(message) for message in connection]
        assert messages[-1] == {"type": "end", "seconds": 2.5, "reason": "shutting_down"}
        assert [message for message in messages if message["type"] == "result"]
        assert running.result().status_code == 200
        assert server.process.wait(20) == 0


def test_nothing_is_written_and_the_log_has_one_line_per_request(tmp_path):
    with run_server() as server:
        files = {"file": ("\x1b[2Jname.wav", CLIP)}
        response = httpx.post(f"{server.url}/v1/tag?timeline=1&top=3", files=files, headers={"X-Secret": TOKEN})
        assert response.json()["file"] == "\N{REPLACEMENT CHARACTER}[2Jname.wav"
        httpx.get(f"{server.url}/a%0d%0ab%1b[2J?token={TOKEN}")
        server.stop()
    lines = [line for line in server.lines if "ending" not in line and "serving" not in line]
    assert len(lines) == 3  # with that of /readyz
    assert re.fullmatch(r"kerastag serve: 127\.0\.0\.1 POST /v1/tag 200 \d+\.\d ms \d+ B", lines[1])
    assert re.fullmatch(r"kerastag serve: 127\.0\.0\.1 GET /a%0D%0Ab%1B%5B2J 404 \d+\.\d ms 0 B", lines[2])


def test_the_server_of_a_tflite_model_imports_no_framework():
    code = """
import sys
from kerastag.serving.config import ModelSpec, ServeConfig
from kerastag.serving import server
from kerastag.serving.engine import load_model
model = load_model(ModelSpec.parse("esc10"), 1)
model.runtime.close()
heavy = ("keras", "tensorflow", "jax", "scipy", "sklearn", "h5py", "matplotlib")
print([name for name in heavy if name in sys.modules])
"""
    assert run_python(code).splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_signal_while_the_models_are_loaded_ends_the_server():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = RunningServer(("--port", str(port)))
    for _ in range(6_000):
        with contextlib.suppress(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/healthz")
            break
        time.sleep(0.01)
    assert server.stop() == 0, server.lines
    server.process.stderr.close()
