"""Changed `.tflite` models whose card has the digest of the changed bytes, as a stranger could make them.

They reach the LiteRT interpreter, which is not promised to withstand them (SECURITY.md): what happens is reported, and
is not a failure.
"""

import os
import signal
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _kills import call_in_child, limit_time

from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import Card, write_card
from kerastag.edge.runtime import LiteRTModel

_MAX_SECONDS = 20
_TABLE_BYTES = 20_000


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Load and run the models; `quick` makes fewer tries."""
    tries = 20 if quick else 200
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        outcomes = Counter(_describe(call_in_child(lambda: _run(path))) for _ in _write_models(path, tries))
    details = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    yield "a crafted .tflite model whose card has its digest", tries, 0, f"not promised: {details}"


def _write_models(path: Path, tries: int) -> Iterator[None]:
    """Write the bundled model with a changed byte, every second time in its tables, which are at both ends."""
    bundled_path = Path(resolve_model_path(BUNDLED_MODEL))
    card, random = Card.read(bundled_path), np.random.default_rng(0)
    with zipfile.ZipFile(bundled_path) as archive:
        content = bundled_path.read_bytes()[: min(member.header_offset for member in archive.infolist())]
    tables = np.r_[8:_TABLE_BYTES, len(content) - _TABLE_BYTES : len(content)]
    for number in range(tries):
        changed = bytearray(content)
        position = random.choice(tables) if number % 2 else random.integers(8, len(content))
        changed[position] ^= random.integers(1, 256)
        path.write_bytes(changed)
        write_card(path, card)
        yield


def _run(path: Path) -> None:
    limit_time(_MAX_SECONDS)
    with Path(os.devnull).open("w", encoding="utf-8") as null:
        sys.stderr = null
        model = LiteRTModel(path)
        model(np.zeros(model.shape, np.float32))


def _describe(status: int) -> str:
    names = {0: "ran", 1: "refused", -signal.SIGPROF: f"over {_MAX_SECONDS} s"}
    return names.get(status, f"ended by {signal.Signals(-status).name}" if status < 0 else f"status {status}")
