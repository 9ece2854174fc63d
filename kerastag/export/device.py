"""An exported file as a device runs it: `python -m kerastag.export.device FILE THREADS` prints what it takes, as JSON.

A process of its own, so that its memory is the file's, the interpreter's and NumPy's, and nobody else's.
"""

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

from kerastag.edge.runtime import LiteRTModel

__all__ = ["Use", "measure_use", "on_noise"]

_FEWEST_CALLS = 5
_MOST_SECONDS = 1.0


class Use(NamedTuple):
    """What running a file takes.

    Args:
        milliseconds: of one window or, of a head in two, of one segment in a stream; the median.
        peak_mb: largest resident memory of the process, MB.
    """

    milliseconds: float
    peak_mb: float


def measure_use(path: Path, threads: int) -> Use:
    """An exported file and a number of threads -> what running it takes, measured in a fresh process."""
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-m", __name__, os.fspath(path), str(threads)],
        env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        raise ValueError(f"{path}: cannot be run in a process of its own: {reason}")
    return Use(**json.loads(result.stdout.splitlines()[-1]))


def main(path: str, threads: int) -> None:
    """Run the file on noise for a second, and print what it took."""
    run = _saved_model(path) if Path(path).is_dir() else _tflite(path, threads)
    taken: list[float] = []
    while len(taken) < _FEWEST_CALLS or sum(taken) < _MOST_SECONDS:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    print(json.dumps(Use(1e3 * float(np.median(taken[1:])), _peak_mb())._asdict()))


def on_noise(model: LiteRTModel) -> Callable[[], object]:
    """A model -> what runs it once on noise: a window or, of a head in two, the next segment of a stream."""
    noise = _noise(model.shape)
    if (split := model.split) is None:
        return lambda: model(noise)
    bag = _noise(split.bag_shape)

    def next_segment() -> None:
        bag[0, -1] = split.keep(noise[0, -1])
        split.say(bag, bag.shape[1] - 1)

    return next_segment


def _tflite(path: str, threads: int) -> Callable[[], object]:
    return on_noise(LiteRTModel(path, threads))


def _saved_model(path: str) -> Callable[[], object]:
    import tensorflow as tf

    from kerastag.card import Card

    loaded, card = tf.saved_model.load(path), Card.read(path)
    function = loaded.signatures["serving_default"]
    ((name, spec),) = function.structured_input_signature[1].items()
    per_second = 1 / (card.seconds_per_frame or 1) if name == "embedding" else card.sample_rate
    shape = (1, round(card.window_seconds * per_second), *spec.shape[2:])
    noise = tf.constant(_noise(shape))
    return lambda: (loaded, function(**{name: noise}))


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says on Linux is the parent's, whose memory a new process begins with
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1e3
    try:
        import resource
    except ImportError:  # Windows has none
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
