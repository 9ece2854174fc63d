"""Measure packing AudioSet's features, and drawing balanced batches from packs of embeddings and of waveforms.

    python benchmarks/data_pipeline.py [--source features.tar.gz]
        [--audio-pack soundscapes/bal_train.h5 [--recordings FOLDER]]

Embeddings: clips per second and peak resident memory of packing, in a process of its own with TensorFlow loaded; then
clips per second of the balanced sampler through tf.data into float32 batches of 500, from memory and from HDF5.
Waveforms: clips per second into float32 batches of 32 whole clips with mixup, from HDF5, and with `--recordings` from
the recordings that the pack names, decoded by tensorflow-io.
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

from _figures import add_record_flag, describe_environment, print_table

from kerastag import data
from kerastag._command import prepare_tensorflow

_WARM_UP_STEPS = 20
_PACKING = """
import json, resource, sys, time
import tensorflow
from kerastag.data import pack_features
start = time.perf_counter()
reports = pack_features(sys.argv[1], sys.argv[2], progress=False)
seconds = time.perf_counter() - start
mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
clips = sum(report.num_clips for report in reports.values())
print(json.dumps({"clips": clips, "seconds": seconds, "mebibytes": mebibytes}))
for report in reports.values():
    print(report, file=sys.stderr)
"""

Row = tuple[str, str, str]


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="Path of features.tar.gz, or of the unpacked folder.")
    parser.add_argument("--audio-pack", "--audio_pack", help="Path of a pack of waveforms.")
    parser.add_argument("--recordings", help="Folder of the recordings that the pack of waveforms names.")
    parser.add_argument("--rounds", type=int, default=5, help="Number of measurements (default: %(default)s).")
    add_record_flag(parser)
    args = parser.parse_args()
    if not (args.source or args.audio_pack):
        parser.error("--source or --audio-pack must be given")
    print(describe_environment())
    rows: list[Row] = []
    if args.source:
        rows += measure_embeddings(args.source, args.rounds)
    if args.audio_pack:
        rows += measure_waveforms(args.audio_pack, args.recordings, args.rounds)
    print_table("data_pipeline", ["what", "median", "worst round"], rows, args.record)


def measure_embeddings(source: str, rounds: int) -> Iterator[Row]:
    """Measure packing, and batches from the first pack."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [run_packing(source, Path(folder) / str(i)) for i in range(rounds)]
        yield make_row("packing, clips per second", [run["clips"] / run["seconds"] for run in runs])
        memory = [run["mebibytes"] for run in runs]
        yield "packing, peak resident MiB", f"{statistics.median(memory):,.0f}", f"{max(memory):,.0f}"
        path = min((Path(folder) / "0").glob("*.h5"))
        for name, in_memory in (("memory", True), ("HDF5", False)):
            with data.FeaturePack(path, in_memory=in_memory) as pack:
                batches = data.EmbeddingBatches(pack, data.BalancedSampler(pack.targets, 500))
                rates = [measure_clips_per_second(batches, 500, 400) for _ in range(rounds)]
            yield make_row(f"batches of 500 from {name}, clips per second", rates)


def measure_waveforms(path: str, recordings: str | None, rounds: int) -> Iterator[Row]:
    """Measure batches of a pack of waveforms, and of its recordings."""
    with data.AudioPack(path) as pack:
        batches = data.WaveformBatches(pack, data.BalancedSampler(pack.targets, 32), mixup=1.0)
        clips = f"clips of {pack.x_shape[1] / pack.sample_rate:g} s at {pack.sample_rate:,} Hz"
        rates = [measure_clips_per_second(batches, 32, 100) for _ in range(rounds)]
        yield make_row(f"batches of 32 {clips} with mixup, clips per second", rates)
        if recordings:
            files = data.AudioFileBatches.create(batches, [pack], recordings)
            rates = [measure_clips_per_second(files, 32, 30) for _ in range(rounds)]
            yield make_row(f"the same {clips}, decoded by tensorflow-io, clips per second", rates)


def run_packing(source: str, output: Path) -> dict[str, float]:
    """Pack the features in a process of its own, and return the number of clips, the time and the memory."""
    command = [sys.executable, "-c", _PACKING, source, output]
    process = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    print(process.stderr.strip().splitlines()[-2:], file=sys.stderr)
    return json.loads(process.stdout)


def measure_clips_per_second(batches: Any, batch_size: int, steps: int) -> float:
    """Measure how fast tf.data yields batches, without the first ones."""
    iterator = iter(data.make_training_dataset(batches, 0, steps + _WARM_UP_STEPS))
    for _ in range(_WARM_UP_STEPS):
        next(iterator)
    start = time.perf_counter()
    for _ in iterator:
        pass
    return batch_size * steps / (time.perf_counter() - start)


def make_row(name: str, rates: list[float]) -> Row:
    """Return the row of a rate in the table."""
    return name, f"{statistics.median(rates):,.0f}", f"{min(rates):,.0f}"


if __name__ == "__main__":
    prepare_tensorflow()
    main()
