"""Downloads from a local server that serves well, truncates, stalls, lies and refuses."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("pooch")

from kerastag import fetch as fetch_module
from kerastag.fetch import FILES, DownloadError, PublicFile, cache_folder, fetch

BODY = bytes(range(256)) * 4096  # 1 MiB


class Server(ThreadingHTTPServer):
    """Serves `BODY` as its `behavior` says and remembers the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behavior, self.requests, self.release, self.etag = "right", [], threading.Event(), '"one"'

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
        if behavior == "busy" and len(server.requests) < 3:
            return self.send_error(503)
        if behavior == "lie":
            body = BODY[::-1]
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == server.etag and behavior != "forgetful":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        if behavior != "no etag":
            self.send_header("ETag", server.etag)
        self.end_headers()
        broken = behavior in ("truncate", "no etag") or (behavior == "truncate once" and len(server.requests) == 1)
        if broken:
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
    return tmp_path / "home"


def get(server, **changes):
    return fetch("test_file", base_url=server.url, progress=False, **{"timeout_seconds": 5.0, **changes})


def left_behind(home):
    return sorted(path.name for path in home.iterdir()) if home.is_dir() else []


def test_downloads_once_and_answers_from_the_cache_afterwards(server, home):
    path = get(server)
    assert path == home / "a=b.bin"
    assert path.read_bytes() == BODY
    assert get(server) == path
    assert fetch("a=b.bin", base_url=server.url) == path
    assert len(server.requests) == 1
    assert left_behind(home) == ["a=b.bin"]


def test_truncated_body_is_an_error_that_names_url_expected_and_received(server, home):
    server.behavior = "no etag"
    with pytest.raises(DownloadError, match=r"http://127.*a%3Db\.bin: .*524288") as caught:
        get(server, attempts=2)
    assert "\n" not in str(caught.value)
    assert "a=b.bin" not in left_behind(home)
    assert len(server.requests) == 2


def test_goes_on_where_a_broken_download_stopped_within_one_call(server):
    server.behavior = "truncate once"
    assert get(server).read_bytes() == BODY
    assert [request.get("Range") for request in server.requests] == [None, "bytes=524288-"]


def test_goes_on_in_the_next_call(server, home):
    server.behavior = "truncate"
    with pytest.raises(DownloadError, match="524288 bytes are kept"):
        get(server, attempts=1)
    server.behavior = "right"
    assert get(server).read_bytes() == BODY
    assert server.requests[-1]["Range"] == "bytes=524288-"
    assert left_behind(home) == ["a=b.bin"]


@pytest.mark.parametrize("change", ["forgetful", "other etag"])
def test_begins_again_when_the_server_cannot_go_on(server, change):
    server.behavior = "truncate"
    with pytest.raises(DownloadError):
        get(server, attempts=1)
    server.behavior = "right" if change == "other etag" else change
    server.etag = '"two"' if change == "other etag" else server.etag
    assert get(server).read_bytes() == BODY


def test_silent_server_is_given_up(server, home):
    server.behavior = "stall"
    with pytest.raises(DownloadError, match=r"silent for 0\.3 s"):
        get(server, timeout_seconds=0.3, attempts=2)
    assert "a=b.bin" not in left_behind(home)


def test_wrong_content_is_an_error_that_names_both_hashes(server, home):
    server.behavior = "lie"
    expected, received = hashlib.sha256(BODY).hexdigest(), hashlib.sha256(BODY[::-1]).hexdigest()
    with pytest.raises(DownloadError, match=f"a%3Db.bin: SHA-256 {expected} is expected, received {received}"):
        get(server)
    assert left_behind(home) == []


def test_not_found_is_not_tried_again(server):
    server.behavior = "missing"
    with pytest.raises(DownloadError, match=r"a%3Db.bin: the server answered 404"):
        get(server)
    assert len(server.requests) == 1


def test_busy_server_is_tried_again(server):
    server.behavior = "busy"
    assert get(server).read_bytes() == BODY
    assert len(server.requests) == 3


def test_no_server_at_all(server):
    with pytest.raises(DownloadError, match=r"127.0.0.1:1"):
        fetch("test_file", base_url="http://127.0.0.1:1/", progress=False, attempts=1)


def test_local_copy_is_checked_and_kept(tmp_path, home):
    (tmp_path / "copy.bin").write_bytes(BODY)
    path = fetch("test_file", from_file=tmp_path / "copy.bin")
    assert path == home / "a=b.bin"
    assert path.read_bytes() == BODY
    assert fetch("test_file", from_file=path) == path
    (tmp_path / "wrong.bin").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"wrong\.bin: SHA-256 .* is expected of a=b\.bin, received"):
        fetch("test_file", from_file=tmp_path / "wrong.bin")
    with pytest.raises(FileNotFoundError, match=r"gone\.bin: no such file"):
        fetch("test_file", from_file=tmp_path / "gone.bin")
    assert path.read_bytes() == BODY


def test_damaged_cache_is_noticed(server):
    path = get(server)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="SHA-256"):
        get(server)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`name` must be one of audioset_features.*received 'nothing'"):
        fetch("nothing")
    with pytest.raises(ValueError, match="`timeout_seconds` must be above 0"):
        fetch("test_file", timeout_seconds=0)
    with pytest.raises(ValueError, match="`attempts` must be 1 or more"):
        fetch("test_file", attempts=0)


def test_missing_pooch_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ImportError, match=r"kerastag\[train\]"):
        fetch("test_file", base_url="http://127.0.0.1:1/")


def test_cache_folder_of_the_platform(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "home"
    monkeypatch.delenv("KERASTAG_HOME")
    monkeypatch.setattr(fetch_module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "kerastag"


def test_every_entry_has_a_known_form():
    for name, public in FILES.items():
        assert public.base_url.startswith("http"), name
        assert public.base_url.endswith("/"), name
        assert public.about, name
        assert public.sha256 is None or len(bytes.fromhex(public.sha256)) == 32, name
    assert len({public.file_name for public in FILES.values()}) == len(FILES)
