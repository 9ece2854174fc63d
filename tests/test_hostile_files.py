"""Hostile and damaged files, as `make faults` tries them, without a failure."""

import os
import subprocess
import sys

import pytest

from checks import ROOT, run_python

COUNT = """
import os, sys
from pathlib import Path
sys.path[:0] = ["benchmarks/faults", "tests"]
from _tries import try_files

def read(path):
    content = path.read_text(encoding="utf-8")
    if content != "good":
        raise {"path": ValueError(f"{path}: bad"), "none": ValueError("bad"), "type": KeyError("bad")}[content]

def make_files(*contents):
    path = Path(sys.argv[-1])
    for content in contents:
        path.write_text(content, encoding="utf-8")
        yield path

print(try_files(make_files("good", "path"), read, must_fail=False))
print(try_files(make_files("good", "path", "none", "type"), read))
print(try_files(make_files("good"), lambda path: os.abort()))
"""


def test_wrong_errors_accepted_files_and_dead_processes_are_failures(tmp_path):
    code = f"import sys; sys.argv = ['', {str(tmp_path / 'file')!r}]\n{COUNT}"
    lines = run_python(code).splitlines()
    assert lines[0] == "(2, [])"
    assert lines[1] == """(4, ['accepted', "no path: ValueError('bad')", "KeyError('bad')"])"""
    assert lines[2] == "(1, ['a process ended with status -6'])"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["hostile_files", "hostile_models"])
def test_hostile_files_are_read_or_refused_in_one_line(name):
    command = [sys.executable, "benchmarks/faults", "--quick", name]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr
