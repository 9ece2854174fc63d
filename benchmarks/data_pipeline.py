"""Packing AudioSet's features, and drawing balanced batches from the packs.

    python benchmarks/data_pipeline.py --source features.tar.gz

Prints clips a second and peak resident memory of packing (a process of its own, TensorFlow loaded), then clips a
second of the balanced sampler through tf.data into float32 batches of 500, from memory and straight from HDF5.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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


def batches_a_second(path: Path, in_memory: bool, steps: int) -> float:
    from kerastag.data.batches import EmbeddingBatches
    from kerastag.data.pack import FeaturePack
    from kerastag.data.pipeline import training_dataset
    from kerastag.data.sampler import BalancedSampler

    with FeaturePack.open(path, in_memory=in_memory) as opened:
        batches = EmbeddingBatches(opened, BalancedSampler(opened.targets, 500))
        iterator = iter(training_dataset(batches, 0, steps + 20))
        for _ in range(20):
            next(iterator)
        started = time.perf_counter()
        for _ in iterator:
            pass
        return steps / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="features.tar.gz, or the unpacked folder")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    from kerastag.recipes._run import versions

    print(" · ".join(f"{name} {version}" for name, version in versions().items()))
    print("| what | median | slowest |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        packed = [pack(arguments.source, Path(folder) / str(i)) for i in range(arguments.rounds)]
        rates = [found["clips"] / found["seconds"] for found in packed]
        print(f"| packing, clips a second | {statistics.median(rates):,.0f} | {min(rates):,.0f} |")
        memory = [found["mebibytes"] for found in packed]
        print(f"| packing, peak resident MiB | {statistics.median(memory):,.0f} | {max(memory):,.0f} |")
        path = next(p for p in sorted((Path(folder) / "0").glob("*.h5")))
        for name, in_memory in (("memory", True), ("HDF5", False)):
            rates = [500 * batches_a_second(path, in_memory, 400) for _ in range(arguments.rounds)]
            rate = f"{statistics.median(rates):,.0f} | {min(rates):,.0f}"
            print(f"| balanced batches of 500 from {name}, clips a second | {rate} |")


if __name__ == "__main__":
    main()
