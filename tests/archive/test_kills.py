"""Kills at random moments, as `make faults` makes them, without a failure."""

import os
import subprocess
import sys

import pytest

from checks import ROOT


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux")  # noqa: PTH112
def test_kills_change_no_byte():
    command = [sys.executable, "benchmarks/faults", "--quick", "kill_archives"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr
