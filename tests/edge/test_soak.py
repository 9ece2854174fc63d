"""An hour of audio as fast as it goes, in a process of its own; `make soak` feeds a day (KERASTAG_SOAK_HOURS=24)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from checks import ROOT

HOURS = float(os.environ.get("KERASTAG_SOAK_HOURS", "1"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 120 * HOURS)
@pytest.mark.parametrize(
    # An onset is that of the output frame of 0.08 s, or of the segment of 0.24 s, in which the burst is heard.
    ("mode", "earliest"),
    [("windowed", -0.081), ("incremental", -0.241)],
)
def test_memory_stays_flat_nothing_is_lost_and_time_stamps_do_not_drift(mode, earliest, request):
    files = {
        "windowed": lambda: (request.getfixturevalue("loudness_model"),),
        "incremental": lambda: request.getfixturevalue("loudness_parts"),
    }[mode]()
    program = Path(__file__).with_name("soak.py")
    result = subprocess.run(
        [sys.executable, program, str(HOURS), *files],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    soaked = json.loads(result.stdout.splitlines()[-1])
    print(mode, soaked)
    assert soaked["hours"] == pytest.approx(HOURS)
    assert soaked["last_second"] == pytest.approx(3_600 * HOURS, abs=0.03)
    assert soaked["lost_seconds"] == 0
    assert soaked["onsets"] == soaked["bursts"] >= 50 * HOURS
    assert soaked["earliest_onset"] >= earliest
    assert soaked["latest_onset"] <= 0.041
    # Flat to 1 %, and none of it is a framework's.
    assert soaked["resident_most"] - soaked["resident_least"] <= 0.01 * soaked["resident_first"]
    assert soaked["resident_most"] < 120e6
