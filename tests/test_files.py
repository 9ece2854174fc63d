"""Files and folders are written whole or not at all."""

import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from checks import ROOT
from kerastag.files import (
    atomic_path,
    read_arrays,
    read_json,
    remove_stale_files,
    temporary_folder,
    write_atomically,
    write_bytes,
    write_json,
    write_text,
)

NAMES = [
    "a.txt",
    "[a]*?.txt",
    "a\nb.txt",
    ".hidden",
    "12.34",
    os.fsdecode("Türklingel 门铃.flac".encode()),
    "a b'\"$(c).txt",
]


@pytest.fixture
def ended_process():
    """Return the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run_and_kill(code, path):
    """Run code that writes to `path` and kills its own process."""
    code = (
        f"import os, signal\nfrom pathlib import Path\nfrom kerastag import files\npath = Path({str(path)!r})\n{code}"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, stdin=subprocess.DEVNULL)
    assert process.returncode == -signal.SIGKILL


KILLED_WRITE = """
with files.atomic_path(path) as temporary_path:
    temporary_path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomically(path, lambda p: p.write_text("old", encoding="utf-8"))

    def fail(temporary_path):
        temporary_path.write_text("half", encoding="utf-8")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert list_files(path.parent) == ["a.txt"]
    assert write_atomically(path, lambda p: p.write_text("new", encoding="utf-8")) == path
    assert path.read_text(encoding="utf-8") == "new"
    assert list_files(path.parent) == ["a.txt"]


def test_a_write_that_creates_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "a.txt", lambda path: None)
    assert list_files(tmp_path) == []


def test_the_temporary_path_ends_like_the_file(tmp_path):
    names = []

    def write(temporary_path):
        names.append(temporary_path.name)
        temporary_path.write_bytes(b"")

    write_atomically(tmp_path / "step_000200.weights.h5", write)
    assert names[0].endswith("step_000200.weights.h5")
    assert names[0] != "step_000200.weights.h5"


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_during_a_write_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path, name):
    path = tmp_path / name
    write_text(path, "old")
    run_and_kill(KILLED_WRITE, path)
    assert path.read_text(encoding="utf-8") == "old"
    assert len(list_files(tmp_path)) == 2  # and the temporary file
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert list_files(tmp_path) == [name]


def test_the_next_write_leaves_temporary_files_of_other_targets(tmp_path, ended_process):
    others = [f".{ended_process}.b.a.txt", f".{ended_process}.a.txt.npz", f".{os.getppid()}.a.txt"]
    for name in [*others, f".{ended_process}.a.txt", f".{ended_process}-files.a.txt"]:
        (tmp_path / name).touch()
    write_text(tmp_path / "a.txt", "new")
    assert list_files(tmp_path) == sorted(["a.txt", *others])


def test_the_permissions_of_an_existing_file_are_kept(tmp_path):
    path = write_text(tmp_path / "a.sh", "old")
    path.chmod(0o750)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    other = tmp_path / "b"
    other.touch()
    assert write_text(tmp_path / "c", "").stat().st_mode == other.stat().st_mode


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "model"
    for names in (["a", "below/b"], ["c"]):
        with atomic_path(path) as temporary_path:
            for name in names:
                write_text(temporary_path / name, name)
        assert list_files(tmp_path) == [f"model/{name}" for name in names]
    with contextlib.suppress(OSError), atomic_path(path) as temporary_path:
        write_text(temporary_path / "half", "")
        raise OSError("no space left")
    assert list_files(tmp_path) == ["model/c"]


def test_a_kill_during_the_write_of_a_folder_leaves_the_old_folder(tmp_path):
    path = tmp_path / "model"
    write_text(path / "a", "old")
    run_and_kill(
        KILLED_WRITE.replace("temporary_path.write", "temporary_path.mkdir(); (temporary_path / 'b').write"), path
    )
    assert list_files(path) == ["a"]
    remove_stale_files(tmp_path)
    assert list_files(tmp_path) == ["model/a"]


def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path):
    path = tmp_path / "model"
    write_text(path / "a", "old")
    code = """
rename = os.replace
def kill_after_the_first_rename(source, target):
    rename(source, target)
    os.kill(os.getpid(), signal.SIGKILL)
with files.atomic_path(path) as temporary_path:
    temporary_path.mkdir()
    os.replace = kill_after_the_first_rename
"""
    run_and_kill(code, path)
    assert not path.exists()
    remove_stale_files(tmp_path)
    assert list_files(tmp_path) == ["model/a"]


def test_a_folder_can_be_replaced_from_a_temporary_folder(tmp_path):
    path = tmp_path / "model"
    write_text(path / "a", "old")
    with temporary_folder(path) as folder:
        write_text(folder / "new" / "b", "new")
        with atomic_path(path) as temporary_path:
            (folder / "new").rename(temporary_path)
        assert folder.is_dir()
    assert list_files(tmp_path) == ["model/b"]


def test_a_temporary_folder_is_empty_beside_its_target_and_removed(tmp_path):
    path = tmp_path / "deep" / "model.tflite"
    with contextlib.suppress(OSError), temporary_folder(path) as folder:
        assert folder.parent == path.parent
        assert list(folder.iterdir()) == []
        write_text(folder / "a", "")
        raise OSError("no space left")
    assert list(path.parent.iterdir()) == []


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    assert write_text(tmp_path / "a.txt", "é\r\n\n").read_bytes() == "é\r\n\n".encode()
    assert write_bytes(tmp_path / "a.bin", b"\x00\n").read_bytes() == b"\x00\n"


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"map": 0.5, "names": ["é"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"map": 0.5, "names": ["é"]}
    assert read_json(tmp_path / "a.json") == {"map": 0.5, "names": ["é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"map": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["map"] == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not a JSON file"),
        (b"\xff\xfe", "not a JSON file"),
        (b"[" * 100_000, "not a JSON file"),
        (b"[1]", "must contain a JSON object; received: list"),
    ],
)
def test_an_invalid_json_file_is_rejected_by_name(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json: {message}"):
        read_json(tmp_path / "a.json")


def test_a_missing_json_file_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")


def test_temporary_files_of_killed_processes_are_removed_and_nothing_else(tmp_path, ended_process):
    (tmp_path / "checkpoints").mkdir()
    stale = [f".{ended_process}.state.npz", f"checkpoints/.{ended_process}.step_000007.weights.h5"]
    others = [f".{os.getpid()}.state.npz", ".1e5.npz", ".hidden", f"{ended_process}.npz", "state.npz"]
    for name in (*stale, *others):
        (tmp_path / name).touch()
    for name in (f".{ended_process}.model", f".{ended_process}-files.model"):
        write_text(tmp_path / name / "part", "")
    remove_stale_files(tmp_path)
    assert list_files(tmp_path) == sorted(others)


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is read on Linux")
def test_a_process_that_has_ended_but_was_not_waited_for_is_not_running(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It keeps its number until `wait`.
    (tmp_path / f".{process.pid}.state.npz").touch()
    remove_stale_files(tmp_path)
    process.wait()
    assert list_files(tmp_path) == []


def test_removing_stale_files_of_a_missing_folder_does_nothing(tmp_path):
    remove_stale_files(tmp_path / "missing")


def test_a_full_disk_is_reported_with_the_path_and_what_to_do(tmp_path):
    def fail(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"the disk is full: make room and run the same command again: '.*a\.txt'"):
        write_atomically(tmp_path / "a.txt", fail)


def test_arrays_are_read_by_name(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", b=np.arange(3), c=np.zeros((2, 0), np.float32))
    arrays = read_arrays(tmp_path / "a.npz")
    assert {name: (array.tolist(), array.shape) for name, array in arrays.items()} == {
        "b": ([0, 1, 2], (3,)),
        "c": ([[], []], (2, 0)),
    }
    with pytest.raises(FileNotFoundError, match="none.npz: no such file"):
        read_arrays(tmp_path / "none.npz")


def test_arrays_that_are_damaged_anywhere_are_one_error_that_names_the_file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, b=np.arange(30), c=np.array("text"))
    content, messages = path.read_bytes(), []
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        try:
            read_arrays(path)  # Some bytes, such as those of the date, carry nothing.
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith(f"{path}: not a complete .npz file (") for message in messages)


@pytest.mark.parametrize("shape", [(10**12,), (2**62, 4)])
def test_arrays_that_claim_or_unpack_to_gigabytes_are_rejected(shape, tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(10**8, np.uint8))
    with pytest.raises(ValueError, match=r"must unpack to at most 67,108,864 bytes; received: 100,000,128"):
        read_arrays(path)
    np.savez_compressed(path, a=np.zeros(1))
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with pytest.raises(ValueError, match=r"a.npz: not a complete .npz file \("):
        read_arrays(path)
