"""Recordings in an object store and on a web server, both of which run here."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from archive.broken_files import NOT_AUDIO
from archive.conftest import read_rows, write_recordings

from kerastag.archive import list_inputs, write_archive
from kerastag.archive.remote import download

pytest.importorskip("s3fs", reason="needs the package s3fs (extra `remote`)")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Return a local S3 server with the recordings of `tmp_path / "recordings"` in the bucket `sounds`."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    file_system = s3fs.S3FileSystem(skip_instance_cache=True)
    file_system.mkdir("sounds")
    folder = write_recordings(tmp_path / "recordings", 4)
    file_system.put(f"{folder}/", "sounds/day/", recursive=True)
    file_system.pipe("sounds/day/notes.txt", b"no audio")
    file_system.pipe("sounds/day/bad.wav", b"no audio")
    s3fs.S3FileSystem.clear_instance_cache()
    yield file_system
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_recordings_in_a_bucket_have_the_rows_of_local_ones(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listing = list_inputs(["s3://sounds/day"], "")
    assert len(listing) == 8
    assert "s3://sounds/day/below/long.flac" in listing["path"].to_pylist()
    assert all(listing["modified_ns"].to_pylist())
    assert len(list_inputs(["s3://sounds/day/*.wav"], "")) == 6
    assert list_inputs(["s3://sounds/day/0000.wav"], "").num_rows == 1
    write_archive(["s3://sounds/day"], "out", "esc10", jobs=1)
    write_archive(["recordings"], "local", "esc10", jobs=1)
    for table in ("files", "tags"):
        local = [
            {**row, "file": row["file"].replace("recordings/", "s3://sounds/day/")}
            for row in read_rows(tmp_path / "local", table)
        ]
        assert read_rows(tmp_path / "out", table) == local
    (failure,) = read_rows(tmp_path / "out", "failures")
    assert (failure["file"], failure["kind"]) == ("s3://sounds/day/bad.wav", NOT_AUDIO)
    with pytest.raises(FileNotFoundError, match="s3://sounds/night: no such file or folder"):
        list_inputs(["s3://sounds/night"], "")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        download("s3://sounds/day/lost.wav", tmp_path / "lost")


def test_recordings_on_a_web_server_are_listed_in_a_table(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.chdir(tmp_path)
    folder = write_recordings(tmp_path / "served", 2)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "list.csv").write_text(f"id,path\n1,{url}/0000.wav\n2,{url}/lost.wav\n", encoding="utf-8")
        write_archive(["list.csv"], "out", "esc10", jobs=1)
        assert list_inputs([f"{url}/0001.wav"], "").num_rows == 1
        server.shutdown()
    assert [row["file"] for row in read_rows(tmp_path / "out", "files")] == [f"{url}/0000.wav"]
    (failure,) = read_rows(tmp_path / "out", "failures")
    assert (failure["file"], failure["stage"], failure["kind"]) == (f"{url}/lost.wav", "read", "missing")


def test_an_unknown_kind_of_url_is_named():
    with pytest.raises(ValueError, match="nowhere://a: must be a URL of a kind that fsspec supports"):
        list_inputs(["nowhere://a"], "")
