"""Packs whose process is killed, or that two processes write at once."""

import subprocess
import sys

import pytest

from checks import ROOT
from kerastag.data import write_synthetic_soundscapes
from kerastag.locks import hold_lock


def test_packs_that_are_killed_at_a_write_are_the_same_after_the_next_call():
    command = [sys.executable, "benchmarks/faults", "--quick", "kill_packs"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("kill -9") == 3


def test_soundscapes_that_another_process_writes_are_refused_and_left_unchanged(tmp_path):
    (tmp_path / "eval.tsv").write_text("the table of the other process", encoding="utf-8")
    message = r"eval: is being written by process \d+"
    with hold_lock(tmp_path / "eval"), pytest.raises(BlockingIOError, match=message):
        write_synthetic_soundscapes(tmp_path, sample_rate=1_000, counts={"eval": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["eval.tsv"]
