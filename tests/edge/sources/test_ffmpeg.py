"""URLs, read by a real ffmpeg from a local web server: whole, stalled, absent, and with a password."""

import http.server
import io
import shutil
import socket
import subprocess
import threading
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from edge.passwords import find_pieces, generate_passwords

from kerastag.edge.sources.ffmpeg import FfmpegSession, check_url, is_live_url, is_url, remove_secrets
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
    for url, name in (
        ("rtsp://admin:p@ss@camera:554/live?user=a", "rtsp://camera:554/live"),
        ("rtsp://camera/user=me&password=secret&channel=1", "rtsp://camera/…"),
        ("https://radio/@channel/a.mp3#part", "https://radio/@channel/a.mp3"),
        ("http://radio", "http://radio"),
    ):
        check_url(url)
        assert remove_secrets(url) == name


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
    session._url = "http://user:s%2Fcret@host/?token=abc"
    message = "[tcp @ 0x1] the password s/cret of s%2Fcret at host is wrong, and so is token=abc"
    assert session._mask(message) == "[tcp @ 0x1] the password … of … at host is wrong, and so is …"
    session.close()
    assert "secret" not in str(error_info.value)


def test_a_url_with_a_password_that_is_not_percent_encoded_is_refused():
    for password in generate_passwords(200):
        url = f"rtsp://me:{password}@camera:554/live"
        with pytest.raises(ValueError, match=r"are percent-encoded \(%2F, %3F, %23, %40\); received: rtsp://…$"):
            check_url(url)
        encoded = f"rtsp://me:{quote(password, safe='')}@camera:554/live?token={quote(password, safe='')}"
        check_url(encoded)
        assert remove_secrets(encoded) == "rtsp://camera:554/live"


@needs_ffmpeg
def test_ffmpeg_never_prints_a_password(server):
    for password in generate_passwords(4):
        encoded = quote(password, safe="")
        for scheme, path in (("http", f"gone?key={encoded}"), ("rtsp", f"password={encoded}"), ("nonsense", "")):
            session = FfmpegSession(f"{scheme}://me:{encoded}@{server.address}/{path}")
            with pytest.raises(SourceLostError, match="ffmpeg ended with status") as error_info:
                list(session)
            session.close()
            text = str(error_info.value)
            assert "(ffmpeg: " in text
            assert not find_pieces(password, text)
            assert not find_pieces(encoded, text)


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
def test_a_camera_without_sound_has_no_audio_track(tmp_path):
    video = tmp_path / "video.ts"
    create = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=duration=1:size=64x64", "-c:v", "mpeg2video"]
    subprocess.run([*create, video], check=True, stdin=subprocess.DEVNULL)
    session = FfmpegSession(f"file://{video}")
    with pytest.raises(SourceLostError, match=r"video.ts: ffmpeg ended with status \d+: no audio track$"):
        list(session)
    session.close()


@needs_ffmpeg
def test_stop_ends_a_waiting_session(server):
    session = FfmpegSession(f"http://{server.address}/half")
    threading.Timer(0.7, session.stop).start()
    assert sum(len(block.samples) for block in session) <= len(SIGNAL)
    session.close()
