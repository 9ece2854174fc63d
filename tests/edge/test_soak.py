"""An hour of audio, as fast as possible, in its own process; `make soak` processes a day (KERASTAG_SOAK_HOURS=24)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from checks import ROOT

HOURS = float(os.environ.get("KERASTAG_SOAK_HOURS", "1"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 120 * HOURS)
@pytest.mark.parametrize(
    # The onset is the start of the output frame of 0.08 s, or of the segment of 0.24 s, that holds the burst.
    ("models", "earliest"),
    [("loudness_model", -0.081), ("loudness_parts", -0.241)],
)
def test_memory_does_not_grow_nothing_is_lost_and_time_stamps_do_not_drift(models, earliest, request):
    paths = np.ravel(request.getfixturevalue(models))
    program = Path(__file__).with_name("soak.py")
    result = subprocess.run(
        [sys.executable, program, str(HOURS), *paths],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    measurements = json.loads(result.stdout.splitlines()[-1])
    print(models, measurements)
    assert measurements["hours"] == pytest.approx(HOURS)
    assert measurements["last_second"] == pytest.approx(3_600 * HOURS, abs=0.03)
    assert measurements["lost_seconds"] == 0
    assert measurements["onsets"] == measurements["bursts"] >= 50 * HOURS
    assert measurements["earliest_onset"] >= earliest
    assert measurements["latest_onset"] <= 0.041
    # Constant to 1 %, and too little for a framework.
    assert measurements["resident_max"] - measurements["resident_min"] <= 0.01 * measurements["resident_first"]
    assert measurements["resident_max"] < 120e6
