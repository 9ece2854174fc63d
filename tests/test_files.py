"""Files appear whole or not at all."""

import json
import os
import signal
import subprocess
import sys

import pytest

from checks import ROOT
from kerastag.files import remove_stale_files, write_atomically, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomically(path, lambda p: p.write_text("old"))

    def fail(beside):
        beside.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [found.name for found in path.parent.iterdir()] == ["a.txt"]
    assert write_atomically(path, lambda p: p.write_text("new")) == path
    assert path.read_text() == "new"
    assert [found.name for found in path.parent.iterdir()] == ["a.txt"]


def test_the_name_to_write_to_has_the_ending_of_the_file(tmp_path):
    names = []

    def write(beside):
        names.append(beside.name)
        beside.write_bytes(b"")

    write_atomically(tmp_path / "step_000200.weights.h5", write)
    assert names[0].endswith("step_000200.weights.h5")
    assert names[0] != "step_000200.weights.h5"


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
import os, signal
from pathlib import Path
from kerastag.files import write_atomically
def write(beside):
    with beside.open("w") as file:
        file.write("half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path({str(path)!r}), write)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, stdin=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2  # and what was half written, under another name


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"map": 0.5, "names": ["é"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"map": 0.5, "names": ["é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"map": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["map"] == 0.5


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (tmp_path / "checkpoints").mkdir()
    left = [f".{ended.pid}.state.npz", f"checkpoints/.{ended.pid}.step_000007.weights.h5"]
    kept = [f".{os.getpid()}.state.npz", ".1e5.npz", ".hidden", f"{ended.pid}.npz", "state.npz"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    remove_stale_files(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
