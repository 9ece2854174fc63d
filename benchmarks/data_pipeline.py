"""Packing AudioSet's features, and drawing balanced batches from packs of features and of recordings.

    python benchmarks/data_pipeline.py [--source features.tar.gz] [--audio_pack scenes/bal_train.h5]

Of features: clips a second and peak resident memory of packing (a process of its own, TensorFlow loaded), then clips a
second of the balanced sampler through tf.data into float32 batches of 500, from memory and straight from HDF5. Of a
pack of recordings: clips a second into float32 batches of 32 whole clips with mixup, straight from HDF5.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerastag._command import prepare_tensorflow

prepare_tensorflow()

_PACKING = """
import json, resource, sys, time
import tensorflow
from kerastag.data.tfrecord import pack_features
started = time.perf_counter()
reports = pack_features(sys.argv[1], sys.argv[2], progress=False)
seconds = time.perf_counter() - started
mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"clips": sum(r.clips for r in reports.values()), "seconds": seconds, "mebibytes": mebibytes}))
for report in reports.values():
    print(report, file=sys.stderr)
"""


def pack(source: str, output: Path) -> dict:
    done = subprocess.run([sys.executable, "-c", _PACKING, source, output], check=True, capture_output=True, text=True)
    print(done.stderr.strip().splitlines()[-2:], file=sys.stderr)
    return json.loads(done.stdout)


def clips_a_second(batches: Any, size: int, steps: int) -> float:
    """Batches of that size -> how fast tf.data gives them, the first twenty left out."""
    from kerastag.data.pipeline import training_dataset

    iterator = iter(training_dataset(batches, 0, steps + 20))
    for _ in range(20):
        next(iterator)
    started = time.perf_counter()
    for _ in iterator:
        pass
    return size * steps / (time.perf_counter() - started)


def of_features(source: str, rounds: int) -> Iterator[str]:
    """The official features -> rows of the table."""
    from kerastag.data.batches import EmbeddingBatches
    from kerastag.data.pack import FeaturePack
    from kerastag.data.sampler import BalancedSampler

    with tempfile.TemporaryDirectory() as folder:
        packed = [pack(source, Path(folder) / str(i)) for i in range(rounds)]
        yield row("packing, clips a second", [found["clips"] / found["seconds"] for found in packed])
        memory = [found["mebibytes"] for found in packed]
        yield f"| packing, peak resident MiB | {statistics.median(memory):,.0f} | {max(memory):,.0f} |"
        path = next(p for p in sorted((Path(folder) / "0").glob("*.h5")))
        for name, in_memory in (("memory", True), ("HDF5", False)):
            with FeaturePack.open(path, in_memory=in_memory) as opened:
                batches = EmbeddingBatches(opened, BalancedSampler(opened.targets, 500))
                rates = [clips_a_second(batches, 500, 400) for _ in range(rounds)]
            yield row(f"balanced batches of 500 from {name}, clips a second", rates)


def of_recordings(path: str, rounds: int) -> Iterator[str]:
    """A pack of recordings -> the row of the table."""
    from kerastag.data.audio_pack import AudioPack
    from kerastag.data.sampler import BalancedSampler
    from kerastag.data.waveform_batches import WaveformBatches

    with AudioPack(path) as opened:
        batches = WaveformBatches(opened, BalancedSampler(opened.targets, 32), mixup=1.0)
        rates = [clips_a_second(batches, 32, 100) for _ in range(rounds)]
        what = f"{opened.x_shape[1] / opened.sample_rate:g} s at {opened.sample_rate:,} Hz"
    yield row(f"batches of 32 recordings of {what} with mixup, clips a second", rates)


def row(what: str, rates: list[float]) -> str:
    return f"| {what} | {statistics.median(rates):,.0f} | {min(rates):,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="features.tar.gz, or the unpacked folder")
    parser.add_argument("--audio_pack", help="a pack of recordings")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not (arguments.source or arguments.audio_pack):
        parser.error("give --source, --audio_pack or both")
    from kerastag.recipes._run import versions

    print(" · ".join(f"{name} {version}" for name, version in versions().items()))
    print("| what | median | slowest |\n| --- | --- | --- |")
    for path, measured in ((arguments.source, of_features), (arguments.audio_pack, of_recordings)):
        for line in measured(path, arguments.rounds) if path else ():
            print(line, flush=True)


if __name__ == "__main__":
    main()
