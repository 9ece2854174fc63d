"""Faults of the chain from a recording to a decision, which `kerastag learn` and `kerastag export` must name.

Each is a small patch of the stream, of the exported files or of training, such as another rate, channel or level,
segments that begin elsewhere, another front end, or thresholds of another run.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from custom.chain_faults import list_faults, make_chain
from custom.small_runs import make_backbone, write_recordings

from kerastag.custom.chain import ChainError


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Try each fault on a small run; `quick` changes nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name), io.StringIO()
        (folder / "recordings").mkdir()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            patch.setenv("KERASTAG_HOME", str(folder / "home"))
            recordings = write_recordings(folder / "recordings")
            chain = make_chain(folder, recordings, make_backbone(folder / "backbone.keras"))
        chain.check()  # An intact chain passes.
        failures = []
        for fault in list_faults():
            with pytest.MonkeyPatch.context() as patch:
                try:
                    (fault.make(patch, chain) or chain).check()
                    failures.append(f"{fault.name}: not caught")
                except ChainError as error:
                    if error.stage not in fault.stages:
                        failures.append(f"{fault.name}: {error}")
        yield "seeded faults of the deployed chain", len(list_faults()), len(failures), "; ".join(failures)
