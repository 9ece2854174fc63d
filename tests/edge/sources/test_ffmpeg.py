"""URLs through a real ffmpeg, from a web server of our own: whole, stalled, absent, and with a password."""

import http.server
import io
import shutil
import socket
import threading

import numpy as np
import pytest
import soundfile

from kerastag.edge.sources.ffmpeg import FfmpegSession, is_live_url, is_url, without_secrets
from kerastag.edge.sources.reopening import Lost, Reopening

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
RATE = 16_000
SIGNAL = np.random.default_rng(0).normal(0, 0.1, (5 * RATE, 2)).astype(np.float32)


def wav():
    file = io.BytesIO()
    soundfile.write(file, SIGNAL, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `/whole` as it is, and of `/half` a half, after which it hangs until the test is over."""

    daemon_threads = True

    def __init__(self):
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Answer)
        self.place = f"127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = wav()
        if self.path not in ("/whole", "/half"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        half = self.path == "/half"
        try:
            self.wfile.write(data[: len(data) // 2] if half else data)
            self.wfile.flush()
        except OSError:
            return
        if half:
            self.server.over.wait(20)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def test_urls_are_told_from_files():
    assert is_url("rtsp://camera/live")
    assert not is_url("C:/music/a.wav")
    assert not is_url("a.wav")
    assert is_live_url("RTSP://camera")
    assert not is_live_url("https://radio/a.mp3")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:p@ss@camera:554/live?user=a", "rtsp://camera:554/live"),
        ("https://radio/a.mp3", "https://radio/a.mp3"),
        ("http://radio", "http://radio"),
    ],
)
def test_messages_do_not_name_passwords(url, shown):
    assert without_secrets(url) == shown


@needs_ffmpeg
def test_a_whole_file_comes_as_it_is(server):
    before = threading.active_count()
    session = FfmpegSession(f"http://{server.place}/whole")
    assert not session.live
    blocks = list(session)
    session.close()
    assert {block.sample_rate for block in blocks} == {RATE}
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), SIGNAL)
    assert "ffmpeg" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= before + 1  # the server's own


@needs_ffmpeg
def test_a_stalled_source_is_noticed_and_opened_again_and_leaves_no_child(server):
    said = []
    sessions = []

    def opened():
        sessions.append(FfmpegSession(f"http://{server.place}/half", 1.0))
        return sessions[-1]

    source = Reopening(opened, "radio", said.append, first_pause_seconds=0.05)
    lost = 0
    threading.Timer(30, source.stop).start()  # so that a fault is a failure, and nothing hangs
    for block in source:
        lost += block.lost_samples
        if lost:
            source.stop()
    source.close()
    assert "radio: nothing came for 1 s; it is opened again" in said[0].replace(f"http://{server.place}/half: ", "")
    assert lost >= RATE  # one second of waiting, at least
    assert len(sessions) == 2
    assert all(session._process.returncode is not None for session in sessions)


@needs_ffmpeg
def test_what_ffmpeg_says_is_in_the_error_and_the_password_is_not(server):
    session = FfmpegSession(f"http://user:secret@{server.place}/gone")
    with pytest.raises(Lost, match=r"http://127.*/gone: ffmpeg ended with status \d+ \(ffmpeg: .*404") as refused:
        list(session)
    session._said.append("the password s/cret of s%2Fcret@host is wrong")
    session._url = "http://user:s%2Fcret@host/"
    assert session._complaint() == " (ffmpeg: the password … of …@host is wrong)"
    session.close()
    assert "secret" not in str(refused.value)


@needs_ffmpeg
def test_nobody_there_and_no_ffmpeg(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        session = FfmpegSession(f"rtsp://user:secret@127.0.0.1:{free.getsockname()[1]}/live")
        with pytest.raises(Lost, match=r"rtsp://127.0.0.1:\d+/live: ffmpeg ended .*refused") as refused:
            list(session)
        session.close()
    assert "secret" not in str(refused.value)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"rtsp://camera/live: needs the program ffmpeg on the PATH"):
        FfmpegSession("rtsp://user:secret@camera/live")


@needs_ffmpeg
def test_it_ends_while_it_waits(server):
    session = FfmpegSession(f"http://{server.place}/half")
    threading.Timer(0.7, session.stop).start()
    assert sum(len(block.samples) for block in session) <= len(SIGNAL)
    session.close()
