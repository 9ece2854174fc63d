"""Downloads from a local server that serves, truncates, stalls, sends other content or refuses."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile

import pytest
from lying_server import BODY, LOGIN_PAGE, LyingServer

from checks import ROOT
from kerastag import fetch as fetch_module
from kerastag.fetch import FILES, DownloadError, PublicFile, fetch, get_cache_folder
from kerastag.locks import hold_lock


@pytest.fixture
def server():
    with LyingServer() as server:
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path / "home"))
    entry = PublicFile("http://nowhere.invalid/", "a=b.bin", "a test file", hashlib.sha256(BODY).hexdigest())
    monkeypatch.setitem(FILES, "test_file", entry)
    monkeypatch.setitem(FILES, "unknown", PublicFile("http://nowhere.invalid/", "unknown.csv", "no digest is known"))
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


def download(server, name="test_file", progress=False):
    return fetch(name, base_url=server.url, progress=progress)


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
    server.behavior = "truncate without etag"
    with pytest.raises(
        DownloadError, match=r"http://127.*a%3Db\.bin: must have 660000 bytes; received: 330000"
    ) as error:
        download(server)
    assert "\n" not in str(error.value)
    assert "a=b.bin" not in list_files(home)
    assert len(server.requests) == 3


def test_a_broken_download_is_resumed_in_the_same_call(server):
    server.behavior = "truncate once"
    assert download(server).read_bytes() == BODY
    assert [request.get("Range") for request in server.requests] == [None, "bytes=330000-"]


def test_a_broken_download_is_resumed_in_the_next_call(server, home, fail_once):
    server.behavior = "truncate"
    fail_once(server, match="330000 bytes are kept")
    server.behavior = "normal"
    assert download(server).read_bytes() == BODY
    assert server.requests[-1]["Range"] == "bytes=330000-"
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
    server.behavior = "range not satisfiable"
    assert download(server).read_bytes() == BODY
    assert [request.get("Range") for request in server.requests] == [None, "bytes=330000-", None]
    assert list_files(home) == ["a=b.bin"]


def test_a_redirected_download_is_resumed(server, fail_once):
    server.behavior = "truncate"
    fail_once(server)
    server.behavior = "redirect"
    assert download(server).read_bytes() == BODY
    assert server.requests[-1]["Range"] == "bytes=330000-"


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
    assert error.endswith("a=b.bin: 0.7 of 0.7 MB (100%)\n")
    assert error.count("\r") >= 2 if is_terminal else error.count("a=b.bin") == 1


def test_the_cache_folder_depends_on_the_platform(monkeypatch, tmp_path):
    assert get_cache_folder() == tmp_path / "home"
    monkeypatch.delenv("KERASTAG_HOME")
    monkeypatch.setattr(fetch_module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert get_cache_folder() == tmp_path / "xdg" / "kerastag"


def test_every_public_file_is_complete_and_comes_over_https():
    public_files = {name: public for name, public in FILES.items() if "nowhere" not in public.base_url}
    for name, public in public_files.items():
        assert public.base_url.startswith("https://"), name
        assert public.base_url.endswith("/"), name
        assert public.about, name
        assert public.sha256 is None or len(bytes.fromhex(public.sha256)) == 32, name
        assert public.md5 is None or len(bytes.fromhex(public.md5)) == 16, name
        assert public.sha256 or public.md5 or "no digest is known" in public.check, name
    assert len({public.file_name for public in FILES.values()}) == len(FILES)


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        ("login page", r"must be a CSV file, complete; received: 46 bytes that start with b'<html><body>Log in"),
        ("empty", r"must be a CSV file, complete; received: 0 bytes that start with b''"),
        ("short", r"must be a CSV file, complete; received: 659000 bytes"),
        ("compressed", r"must be a CSV file, complete; received: .* b'\\x1f\\x8b"),
        ("truncate without length", r"the server does not state the size, and no digest of the file is known"),
        ("endless", r"the server does not state the size"),
        ("length is text", r"the header Content-Length must be a number; received: 'lots'"),
        ("length is huge", r"must have at most 8589934592 bytes; the server states 1152921504606846976"),
        ("redirect to a local file", r"the server answered 302"),
        (
            "part that was not asked for",
            r"the header Content-Range must be .* received: 'bytes 330",
        ),
    ],
)
def test_a_bad_download_is_never_kept_even_if_no_digest_is_known(server, home, behavior, message):
    server.behavior = behavior
    with pytest.raises(DownloadError, match=rf"^http://127.*/folder/unknown\.csv: {message}") as error:
        download(server, "unknown")
    assert "\n" not in str(error.value)
    assert list_files(home) == []
    server.behavior = "normal"
    assert download(server, "unknown").read_bytes() == BODY


@pytest.mark.parametrize(
    "behavior",
    [
        "part of the beginning",
        "part without range",
        "part of another version",
        "part with another total",
        "login page for the rest",
    ],
)
def test_a_false_rest_of_a_download_is_not_appended(server, home, fail_once, behavior):
    server.behavior = "truncate"
    fail_once(server)
    server.behavior = behavior
    fail_once(server)
    assert list_files(home) == []
    server.behavior = "normal"
    assert download(server).read_bytes() == BODY


def test_servers_that_lie_and_processes_that_are_killed_leave_only_whole_files():
    command = [sys.executable, "benchmarks/faults", "--quick", "fetch"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "two fetch" in result.stdout


def test_a_cached_file_that_is_bad_says_what_to_do(home, server):
    home.mkdir()
    (home / "unknown.csv").write_bytes(LOGIN_PAGE)
    message = (
        r"unknown\.csv: must be a CSV file, complete; received: .*; remove the file and run the same command again"
    )
    with pytest.raises(ValueError, match=message):
        download(server, "unknown")
    (home / "page.html").write_bytes(LOGIN_PAGE)
    with pytest.raises(ValueError, match=r"page\.html: must be a CSV file"):
        fetch("unknown", from_file=home / "page.html")


def test_a_download_that_is_complete_is_checked_without_the_server(server, home):
    home.mkdir()
    (home / "a=b.bin.part").write_bytes(BODY)
    (home / "a=b.bin.part.json").write_text(json.dumps({"validator": '"one"', "size": len(BODY)}), encoding="utf-8")
    (home / "a=b.bin.part.etag").write_text("of version 0.1.0", encoding="utf-8")
    assert download(server).read_bytes() == BODY
    assert server.requests == []
    assert list_files(home) == ["a=b.bin"]


@pytest.mark.parametrize("state", [None, "{", "[]", '{"validator": 3, "size": 5}', '{"validator": "x"}'])
def test_a_part_without_its_etag_is_downloaded_again(server, home, state):
    home.mkdir()
    (home / "a=b.bin.part").write_bytes(b"bytes of an older file")
    if state is not None:
        (home / "a=b.bin.part.json").write_text(state, encoding="utf-8")
    assert download(server).read_bytes() == BODY
    assert "Range" not in server.requests[0]
    assert list_files(home) == ["a=b.bin"]


def test_a_process_waits_for_another_that_downloads_the_same_file(server, home, capsys):
    with hold_lock(home / "a=b.bin"):
        thread = threading.Thread(target=download, args=(server, "test_file", True))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        (home / "a=b.bin").write_bytes(BODY)
    thread.join(10)
    assert server.requests == []
    assert f"a=b.bin: waiting for process {os.getpid()}, which is writing it" in capsys.readouterr().err
    assert list_files(home) == ["a=b.bin"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("a.tar.gz", b"\x1f\x8b\x08 content", b"<html>"),
        ("a.json", b'[{"id": 1}]', b'[{"id": 1}'),
        ("a.csv", b"a,b\n1,2\n", b"a,b\n1,"),
        ("a.pth", b"\x80\x02\x8a", b"PK\x03\x04 without an end"),
        ("a.ckpt", b"weights" + bytes.fromhex("57fb808b247547db"), b"weights"),
        ("a.bin", b"x", b""),
    ],
)
def test_files_without_a_digest_are_recognized_by_their_kind(tmp_path, name, good, bad):
    public = PublicFile("https://nowhere.invalid/", name, "")
    (tmp_path / name).write_bytes(good)
    assert public.find_fault(tmp_path / name) is None
    (tmp_path / name).write_bytes(bad)
    assert "must be a" in public.find_fault(tmp_path / name)


def test_zip_archives_are_recognized_if_they_are_complete(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x" * 100)
    public = PublicFile("https://nowhere.invalid/", "a.pt", "")
    assert public.find_fault(path) is None
    path.write_bytes(path.read_bytes()[:-30])
    assert "must be a PyTorch file, complete" in public.find_fault(path)


def test_sizes_and_digests_are_checked(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    values = {"base_url": "https://nowhere.invalid/", "file_name": "a.bin", "about": ""}
    assert PublicFile(**values, size=3, md5=hashlib.md5(b"abc").hexdigest()).find_fault(path) is None
    assert PublicFile(**values, size=4).find_fault(path) == "size must be 4 bytes; received: 3"
    assert PublicFile(**values, md5="00").find_fault(path).startswith("MD5 must be 00; received: 9001")
