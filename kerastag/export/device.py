"""Time and memory of an exported file, measured in a process that loads only the file, the interpreter and NumPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerastag.card import Card
from kerastag.edge.runtime import LiteRTModel

__all__ = ["Usage", "make_noise_run", "measure_usage"]

_MIN_CALLS, _MIN_SECONDS = 5, 1.0


class Usage(NamedTuple):
    """Resources of an exported file.

    Args:
        milliseconds: Median time of one window, or of one segment of a split head, in milliseconds.
        peak_mb: Largest resident memory of the process in MB; None where the system does not report it.
    """

    milliseconds: float
    peak_mb: float | None


def measure_usage(path: Path, num_threads: int) -> Usage:
    """Measure the time and memory of an exported file in a new process."""
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-m", __name__, os.fspath(path), str(num_threads)],
        env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        raise ValueError(f"{path}: cannot be run in a process of its own: {reason}")
    return Usage(**json.loads(result.stdout.splitlines()[-1]))


def _print_usage(path: str, num_threads: int) -> None:
    """Run a file on noise for a second, and print its usage as JSON."""
    run = _load_saved_model(path) if Path(path).is_dir() else make_noise_run(LiteRTModel(path, num_threads))
    seconds: list[float] = []
    while len(seconds) < _MIN_CALLS or sum(seconds) < _MIN_SECONDS:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(Usage(1e3 * float(np.median(seconds[1:])), _measure_peak_mb())._asdict()))


def make_noise_run(model: LiteRTModel) -> Callable[[], object]:
    """Make a function that runs a model once on noise: on a window, or on the next segment of a split head."""
    noise = _make_noise(model.shape)
    if (split := model.split) is None:
        return lambda: model(noise)
    bag = _make_noise(split.bag_shape)

    def run_segment() -> None:
        bag[0, -1] = split.process_segment(noise[0, -1])
        split.predict(bag, bag.shape[1] - 1)

    return run_segment


def _load_saved_model(path: str) -> Callable[[], object]:
    import tensorflow as tf

    model, card = tf.saved_model.load(path), Card.read(path)
    function = model.signatures["serving_default"]
    ((name, spec),) = function.structured_input_signature[1].items()
    per_second = 1 / (card.seconds_per_frame or 1) if name == "embedding" else card.sample_rate
    noise = tf.constant(_make_noise((1, round(card.window_seconds * per_second), *spec.shape[2:])))
    return lambda: (model, function(**{name: noise}))


def _make_noise(shape: tuple[int, ...]) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def _measure_peak_mb() -> float | None:
    status = Path("/proc/self/status")
    if status.is_file():  # On Linux, getrusage reports the memory of the parent, with which a new process begins.
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1e3
    try:
        import resource
    except ImportError:  # on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    _print_usage(sys.argv[1], int(sys.argv[2]))
