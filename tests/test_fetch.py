"""Downloads from a local server that serves, truncates, stalls, sends other content or refuses."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kerastag import fetch as fetch_module
from kerastag.fetch import FILES, DownloadError, PublicFile, fetch, get_cache_folder

BODY = bytes(range(256)) * 4096  # 1 MiB


class Server(ThreadingHTTPServer):
    """A server that sends `BODY` according to its `behavior` and records the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behavior, self.requests, self.release, self.etag = "normal", [], threading.Event(), '"one"'

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        behavior, body, start = server.behavior, BODY, 0
        if behavior == "missing":
            return self.send_error(404)
        if behavior == "redirect" and self.path.startswith("/folder"):
            self.send_response(302)
            self.send_header("Location", f"/elsewhere/{self.path.rsplit('/', 1)[1]}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if behavior == "busy" and len(server.requests) < 3:
            return self.send_error(503)
        if behavior == "other content":
            body = BODY[::-1]
        byte_range = self.headers.get("Range")
        if byte_range and self.headers.get("If-Range") == server.etag and behavior != "no resume":
            if behavior == "whole part":
                return self.send_error(416)
            start = int(byte_range.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        if behavior != "no etag":
            self.send_header("ETag", server.etag)
        self.end_headers()
        is_truncated = behavior in ("truncate", "no etag") or (
            behavior == "truncate once" and len(server.requests) == 1
        )
        if is_truncated:
            body = body[: start + (len(body) - start) // 2]
        if behavior == "stall":
            self.wfile.write(body[: len(body) // 4])
            self.wfile.flush()
            server.release.wait(20)
            return None
        return self.wfile.write(body[start:])


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path / "home"))
    entry = PublicFile("http://nowhere.invalid/", "a=b.bin", "a test file", hashlib.sha256(BODY).hexdigest())
    monkeypatch.setitem(FILES, "test_file", entry)
    monkeypatch.setattr(fetch_module, "_TIMEOUT_SECONDS", 5.0)
    return tmp_path / "home"


@pytest.fixture
def fail_once(monkeypatch):
    """Return a function that downloads from a server in one attempt, which fails."""

    def fail(server, match="http://127"):
        with monkeypatch.context() as patch:
            patch.setattr(fetch_module, "_ATTEMPTS", 1)
            with pytest.raises(DownloadError, match=match):
                download(server)

    return fail


def download(server, progress=False):
    return fetch("test_file", base_url=server.url, progress=progress)


def list_files(home):
    return sorted(path.name for path in home.iterdir()) if home.is_dir() else []


def test_a_file_is_downloaded_once_and_then_read_from_the_cache(server, home):
    path = download(server)
    assert path == home / "a=b.bin"
    assert path.read_bytes() == BODY
    assert download(server) == path
    assert fetch("a=b.bin", base_url=server.url) == path
    assert len(server.requests) == 1
    assert list_files(home) == ["a=b.bin"]


def test_a_truncated_download_is_an_error_with_address_and_sizes(server, home):
    server.behavior = "no etag"
    with pytest.raises(
        DownloadError, match=r"http://127.*a%3Db\.bin: must have 1048576 bytes; received: 524288"
    ) as error:
        download(server)
    assert "\n" not in str(error.value)
    assert "a=b.bin" not in list_files(home)
    assert len(server.requests) == 3


def test_a_broken_download_is_resumed_in_the_same_call(server):
    server.behavior = "truncate once"
    assert download(server).read_bytes() == BODY
    assert [request.get("Range") for request in server.requests] == [None, "bytes=524288-"]


def test_a_broken_download_is_resumed_in_the_next_call(server, home, fail_once):
    server.behavior = "truncate"
    fail_once(server, match="524288 bytes are kept")
    server.behavior = "normal"
    assert download(server).read_bytes() == BODY
    assert server.requests[-1]["Range"] == "bytes=524288-"
    assert list_files(home) == ["a=b.bin"]


@pytest.mark.parametrize("change", ["no resume", "other etag"])
def test_a_download_starts_again_when_the_server_cannot_resume_it(server, change, fail_once):
    server.behavior = "truncate"
    fail_once(server)
    server.behavior = "normal" if change == "other etag" else change
    server.etag = '"two"' if change == "other etag" else server.etag
    assert download(server).read_bytes() == BODY


def test_a_part_as_long_as_the_file_is_downloaded_again(server, home, fail_once):
    server.behavior = "truncate"
    fail_once(server)
    server.behavior = "whole part"
    assert download(server).read_bytes() == BODY
    assert [request.get("Range") for request in server.requests] == [None, "bytes=524288-", None]
    assert list_files(home) == ["a=b.bin"]


def test_a_redirected_download_is_resumed(server, fail_once):
    server.behavior = "truncate"
    fail_once(server)
    server.behavior = "redirect"
    assert download(server).read_bytes() == BODY
    assert server.requests[-1]["Range"] == "bytes=524288-"


def test_a_silent_server_is_an_error(server, home, monkeypatch, fail_once):
    monkeypatch.setattr(fetch_module, "_TIMEOUT_SECONDS", 0.3)
    server.behavior = "stall"
    fail_once(server, match=r"silent for 0\.3 s")
    assert "a=b.bin" not in list_files(home)


def test_other_content_is_an_error_with_both_hashes(server, home):
    server.behavior = "other content"
    expected, received = hashlib.sha256(BODY).hexdigest(), hashlib.sha256(BODY[::-1]).hexdigest()
    with pytest.raises(DownloadError, match=f"a%3Db.bin: SHA-256 must be {expected}; received: {received}"):
        download(server)
    assert list_files(home) == []


def test_a_missing_file_is_not_requested_again(server):
    server.behavior = "missing"
    with pytest.raises(DownloadError, match=r"a%3Db.bin: the server answered 404"):
        download(server)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server):
    server.behavior = "busy"
    assert download(server).read_bytes() == BODY
    assert len(server.requests) == 3


def test_no_connection_is_an_error_that_mentions_local_copies():
    with pytest.raises(DownloadError, match=r"127.0.0.1:1/a%3Db.bin: no connection .*--from"):
        fetch("test_file", base_url="http://127.0.0.1:1/", progress=False)


def test_a_local_copy_is_checked_and_copied(tmp_path, home):
    (tmp_path / "copy.bin").write_bytes(BODY)
    path = fetch("test_file", from_file=tmp_path / "copy.bin")
    assert path == home / "a=b.bin"
    assert path.read_bytes() == BODY
    assert fetch("test_file", from_file=path) == path
    (tmp_path / "wrong.bin").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"wrong\.bin: SHA-256 of a=b\.bin must be .*; received"):
        fetch("test_file", from_file=tmp_path / "wrong.bin")
    with pytest.raises(FileNotFoundError, match=r"gone\.bin: no such file"):
        fetch("test_file", from_file=tmp_path / "gone.bin")
    assert path.read_bytes() == BODY


def test_a_damaged_cached_file_is_an_error(server):
    path = download(server)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="SHA-256"):
        download(server)


def test_an_unknown_name_is_rejected():
    with pytest.raises(ValueError, match=r"`name` must be one of audioset_features.*; received: 'nothing'"):
        fetch("nothing")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_progress_appears_on_standard_error(server, capsys, monkeypatch, is_terminal):
    monkeypatch.setattr(fetch_module.sys.stderr, "isatty", lambda: is_terminal)
    download(server, progress=True)
    output, error = capsys.readouterr()
    assert output == ""
    assert error.endswith("a=b.bin: 1.0 of 1.0 MB (100%)\n")
    assert error.count("\r") >= 2 if is_terminal else error.count("a=b.bin") == 1


def test_the_cache_folder_depends_on_the_platform(monkeypatch, tmp_path):
    assert get_cache_folder() == tmp_path / "home"
    monkeypatch.delenv("KERASTAG_HOME")
    monkeypatch.setattr(fetch_module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert get_cache_folder() == tmp_path / "xdg" / "kerastag"


def test_every_public_file_is_complete():
    for name, public in FILES.items():
        assert public.base_url.startswith("http"), name
        assert public.base_url.endswith("/"), name
        assert public.about, name
        assert public.sha256 is None or len(bytes.fromhex(public.sha256)) == 32, name
    assert len({public.file_name for public in FILES.values()}) == len(FILES)
