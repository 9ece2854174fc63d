"""Measure reading and training on packs of the size of AudioSet: memory, and the rates of sampler, batches and steps.

    python benchmarks/full_audioset.py [--clips 2000000] [--folder FOLDER] [--steps 400]

The pack holds synthetic clips in the form of AudioSet's released features: uint8, ten segments of 128 features, 527
classes. 2,000,000 clips take 2.6 GB, twice as much while they are written; the folder is removed at the end, unless it
is named. Each measurement runs in a process of its own: opening the pack; the balanced sampler alone; batches of 500
through tf.data, from HDF5 and from memory; and training steps of feature-level attention on one batch again and again,
and on new batches. Growth is the memory at the end minus that after a quarter of the steps, without the pages of the
file, which the system maps and reclaims; the peak includes them.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _figures import add_record_flag, describe_environment, print_table

from kerastag import data
from kerastag._command import prepare_tensorflow
from kerastag.data.feature_pack_writer import FeaturePackWriter

_NUM_CLASSES, _BATCH_SIZE, _WARM_UP_STEPS = 527, 500, 5
_BLOCK_CLIPS = 10_000
_MAX_BYTES_PER_CLIP = 2 * 1_280 + 600  # rows are collected in plain files, from which HDF5 is written
KINDS = ("open", "sampler", "batches from HDF5", "batches from memory", "steps on one batch", "steps from HDF5")


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2_000_000, help="Number of clips (default: %(default)s).")
    parser.add_argument("--folder", type=Path, help="Folder for the pack, which is kept and used again.")
    parser.add_argument("--steps", type=int, default=400, help="Batches of a measurement (default: %(default)s).")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    add_record_flag(parser)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.folder / "unbal_train.h5", args.steps)))
        return
    print(describe_environment())
    with contextlib.nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unbal_train.h5"
        if not path.is_file():
            write_pack(path, args.clips)
        print(f"{path}: {path.stat().st_size / 1e9:.2f} GB")
        rows = [run_measurement(kind, Path(folder), args.steps) for kind in KINDS]
    header = ["what", "batches per second", "clips per second", "peak MiB", "growth MiB", "first s"]
    print_table("full_audioset", header, rows, args.record)


def write_pack(path: Path, num_clips: int) -> None:
    """Write a pack of synthetic clips, in constant memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(path.parent).free, num_clips * _MAX_BYTES_PER_CLIP
    if free < needed:
        raise SystemExit(f"{path.parent}: needs {needed / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are free")
    start = time.perf_counter()
    with FeaturePackWriter(path, num_classes=_NUM_CLASSES) as pack:
        for block, first in enumerate(range(0, num_clips, _BLOCK_CLIPS)):
            size = min(_BLOCK_CLIPS, num_clips - first)
            clips = data.make_synthetic_features(size, num_classes=_NUM_CLASSES, seed=block, split="unbal_train")
            pack.append(clips.x, clips.num_segments, clips.targets, clips.ids)
        pack.finish()
    print(f"written in {time.perf_counter() - start:.0f} s", file=sys.stderr)


def run_measurement(kind: str, folder: Path, steps: int) -> tuple[str, ...]:
    """Run a measurement in a process of its own, and return its row of the table."""
    command = [sys.executable, __file__, "--measure", kind, "--folder", str(folder), "--steps", str(steps)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    values = json.loads(result.stdout.splitlines()[-1])
    rate = values["batches_per_second"]
    rates = (f"{rate:,.2f}", f"{rate * _BATCH_SIZE:,.0f}") if rate else ("–", "–")
    return kind, *rates, f"{values['peak']:,.0f}", f"{values['growth']:,.1f}", f"{values['first_seconds']:.1f}"


def measure(kind: str, path: Path, steps: int) -> dict[str, float]:
    """Measure the rate, the memory in MiB and the seconds until the first batch."""
    start = time.perf_counter()
    pack = data.FeaturePack(path, in_memory=kind.endswith("memory"))
    if kind == "open":
        first = time.perf_counter() - start
        return {"batches_per_second": 0, "peak": read_memory("VmHWM"), "growth": 0, "first_seconds": first}
    sampler = data.BalancedSampler(pack.targets, _BATCH_SIZE, allow_empty_classes=True)
    run_step = make_step(kind, data.EmbeddingBatches(pack, sampler), steps)
    run_step(0)
    first = time.perf_counter() - start
    for index in range(1, _WARM_UP_STEPS):
        run_step(index)
    start = time.perf_counter()
    for index in range(_WARM_UP_STEPS, steps):
        if index == max(_WARM_UP_STEPS, steps // 4):
            memory = read_memory("RssAnon")
        run_step(index)
    return {
        "batches_per_second": (steps - _WARM_UP_STEPS) / (time.perf_counter() - start),
        "peak": read_memory("VmHWM"),
        "growth": read_memory("RssAnon") - memory,
        "first_seconds": first,
    }


def make_step(kind: str, batches: data.EmbeddingBatches, steps: int) -> Callable[[int], Any]:
    """Return the function of a number that is timed."""
    if kind == "sampler":
        return batches.sampler.batch
    dataset = data.make_training_dataset(batches, 0, steps)
    if kind.startswith("batches"):
        iterator = iter(dataset)
        return lambda _: next(iterator)
    import keras

    from kerastag.models import MODELS
    from kerastag.training.config import TrainingConfig
    from kerastag.training.optimization import compile_model
    from kerastag.training.outputs import select_training_outputs

    keras.utils.set_random_seed(0)
    model = select_training_outputs(MODELS["feature_attention"].build(num_classes=_NUM_CLASSES))
    compile_model(model, TrainingConfig())
    if kind == "steps on one batch":
        x, y = batches.batch(0)
        return lambda _: model.train_on_batch(x, y)
    iterator = iter(dataset)
    return lambda _: model.train_on_batch(*next(iterator))


def read_memory(name: str) -> float:
    """Read a line of this process's status on Linux: `RssAnon`, or the peak `VmHWM`, with files; MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1024


if __name__ == "__main__":
    prepare_tensorflow()
    main()
