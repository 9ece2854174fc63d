"""URLs, read by a real ffmpeg from a local web server: whole, stalled, absent, and with a password."""

import http.server
import io
import shutil
import socket
import threading

import numpy as np
import pytest
import soundfile

from kerastag.edge.sources.ffmpeg import FfmpegSession, is_live_url, is_url, remove_secrets
from kerastag.edge.sources.pcm import SourceLostError
from kerastag.edge.sources.source import ReopeningSource

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
RATE = 16_000
SIGNAL = np.random.default_rng(0).normal(0, 0.1, (5 * RATE, 2)).astype(np.float32)


def encode_wav():
    file = io.BytesIO()
    soundfile.write(file, SIGNAL, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """A server of `/whole`, and of one half of `/half`, after which it hangs until the end of the test."""

    daemon_threads = True

    def __init__(self):
        self.test_is_over = threading.Event()
        super().__init__(("127.0.0.1", 0), RequestHandler)
        self.address = f"127.0.0.1:{self.server_address[1]}"


class RequestHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = encode_wav()
        if self.path not in ("/whole", "/half"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        is_half = self.path == "/half"
        try:
            self.wfile.write(data[: len(data) // 2] if is_half else data)
            self.wfile.flush()
        except OSError:
            return
        if is_half:
            self.server.test_is_over.wait(20)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.test_is_over.set()
    server.shutdown()
    server.server_close()


def test_urls_are_distinguished_from_paths_and_named_without_passwords():
    assert is_url("rtsp://camera/live")
    assert not any(map(is_url, ("C:/music/a.wav", "a.wav")))
    assert is_live_url("RTSP://camera")
    assert not is_live_url("https://radio/a.mp3")
    assert remove_secrets("rtsp://admin:p@ss@camera:554/live?user=a") == "rtsp://camera:554/live"
    assert remove_secrets("https://radio/a.mp3") == "https://radio/a.mp3"
    assert remove_secrets("http://radio") == "http://radio"


@needs_ffmpeg
def test_a_file_is_read_without_a_change(server):
    before = threading.active_count()
    session = FfmpegSession(f"http://{server.address}/whole")
    assert not session.live
    blocks = list(session)
    session.close()
    assert {block.sample_rate for block in blocks} == {RATE}
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), SIGNAL)
    assert threading.active_count() <= before + 1  # the thread of the server


@needs_ffmpeg
def test_a_stalled_source_is_reopened_and_leaves_no_child_process(server):
    lines, sessions = [], []

    def open_session():
        sessions.append(FfmpegSession(f"http://{server.address}/half", 1.0))
        return sessions[-1]

    source = ReopeningSource(open_session, lines.append, first_pause_seconds=0.05)
    lost = 0
    timer = threading.Timer(30, source.stop)  # so that a bug does not hang
    timer.start()
    for block in source:
        lost += block.lost_samples
        if lost:
            source.stop()
    source.close()
    timer.cancel()
    assert f"http://{server.address}/half: nothing came for 1 s; it is reopened" in lines[0]
    assert lost >= 0.9 * RATE  # a second of waiting, less the duration of the block
    assert len(sessions) == 2
    assert all(session._process.returncode is not None for session in sessions)


@needs_ffmpeg
def test_the_error_contains_the_message_of_ffmpeg_and_not_the_password(server):
    session = FfmpegSession(f"http://user:secret@{server.address}/gone")
    message = r"http://127.*/gone: ffmpeg ended with status \d+ \(ffmpeg: .*404"
    with pytest.raises(SourceLostError, match=message) as error_info:
        list(session)
    session._messages.append("the password s/cret of s%2Fcret@host is wrong")
    session._url = "http://user:s%2Fcret@host/"
    assert session._format_message() == " (ffmpeg: the password … of …@host is wrong)"
    session.close()
    assert "secret" not in str(error_info.value)


@needs_ffmpeg
def test_a_missing_server_and_a_missing_ffmpeg_are_errors(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        session = FfmpegSession(f"rtsp://user:secret@127.0.0.1:{free.getsockname()[1]}/live")
        with pytest.raises(SourceLostError, match=r"rtsp://127.0.0.1:\d+/live: ffmpeg ended .*refused") as error_info:
            list(session)
        session.close()
    assert "secret" not in str(error_info.value)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"rtsp://camera/live: needs the program ffmpeg on the PATH"):
        FfmpegSession("rtsp://user:secret@camera/live")


@needs_ffmpeg
def test_stop_ends_a_waiting_session(server):
    session = FfmpegSession(f"http://{server.address}/half")
    threading.Timer(0.7, session.stop).start()
    assert sum(len(block.samples) for block in session) <= len(SIGNAL)
    session.close()
