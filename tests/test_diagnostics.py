"""The description of the installation."""

import getpass
import platform
import sys
from pathlib import Path

import numpy as np
import pytest

import kerastag
from kerastag import diagnostics
from kerastag.cli import main
from kerastag.diagnostics import describe_installation


def parse(text):
    return {title: value.strip() for title, _, value in (line.partition(":") for line in text.splitlines())}


def test_doctor_prints_versions_devices_interpreter_back_ends_and_cache_and_nothing_private(
    monkeypatch, tmp_path, capsys
):
    # Importing TensorFlow and JAX would take seconds.
    monkeypatch.setitem(diagnostics._PROGRAMS, "TensorFlow", "print('H200')")
    monkeypatch.setitem(diagnostics._PROGRAMS, "JAX", "print('none')")
    home = str(Path.home())
    monkeypatch.setattr(platform, "node", lambda: "my-laptop")
    monkeypatch.delenv("KERASTAG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    (tmp_path / ".cache/kerastag").mkdir(parents=True)
    (tmp_path / ".cache/kerastag/model.keras").write_bytes(bytes(2_500_000))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    values = parse(text)
    assert values["kerastag"] == kerastag.__version__
    assert values["Python"].startswith(platform.python_version())
    assert platform.machine() in values["system"]
    assert f"numpy {np.__version__}" in values["packages"]
    assert values["TensorFlow GPUs"] in ("H200", "not installed")
    assert values["libsndfile"][0].isdigit()
    assert values["cache"] == "~/.cache/kerastag, 1 files, 2.5 MB"
    assert values.keys() >= {"JAX devices", "interpreter", "ffmpeg", "Keras backend"}
    for private in (home, str(tmp_path), "my-laptop", sys.prefix, f"/{getpass.getuser()}/"):
        assert private not in text
    monkeypatch.setenv("KERASTAG_HOME", "/srv/secret")
    assert diagnostics._describe_cache() == "KERASTAG_HOME, 0 files, 0.0 MB"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise ImportError('/home/me/lib/libx.so.1: no such file')", "fails: ImportError: libx.so.1: no such file"),
        ("import os; os._exit(3)", "fails: status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "fails: status -9"),
    ],
)
def test_a_broken_framework_is_described(program, reason, monkeypatch):
    monkeypatch.setitem(diagnostics._PROGRAMS, "TensorFlow", program)
    assert diagnostics._run_program("TensorFlow") == reason


def test_a_framework_that_hangs_is_described(monkeypatch):
    monkeypatch.setitem(diagnostics._PROGRAMS, "JAX", "import time; time.sleep(60)")
    monkeypatch.setattr(diagnostics, "_TIMEOUT_SECONDS", 1)
    assert diagnostics._run_program("JAX") == "fails: no answer within 1 s"


@pytest.mark.slow
def test_the_programs_run():
    values = parse(describe_installation())
    assert not [value for value in values.values() if value.startswith("fails")]
