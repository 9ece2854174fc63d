"""Speed and memory of embedding and tagging on one core, with Keras and with LiteRT.

    python benchmarks/tagging.py [--model mn04_as] [--minutes 60] [--recording FILE]

Each measurement runs in its own process on one core, and reports the peak memory of that process. The long recording is
a FLAC file with bursts of noise, or `--recording` repeated. Results are valid only on an otherwise idle machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from _figures import add_record_flag, print_table

ROOT = Path(__file__).resolve().parent.parent
EMBEDDING_SECONDS = 300.0


def main() -> None:
    """Create the recordings and the TFLite model, measure each case in its own process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mn04_as", help="A .keras file or a preset (default: %(default)s).")
    parser.add_argument("--minutes", type=float, default=60.0, help="Length of the long recording (default: 60).")
    parser.add_argument("--recording", help="Audio file to repeat in the long recording (default: bursts of noise).")
    parser.add_argument("--measure", nargs=3, metavar=("TASK", "MODEL", "RECORDING"), help=argparse.SUPPRESS)
    add_record_flag(parser)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        long_path, short_path = Path(folder, "long.flac"), Path(folder, "short.flac")
        write_recording(long_path, 60 * args.minutes, args.recording)
        write_recording(short_path, EMBEDDING_SECONDS, args.recording)
        tflite_path = Path(folder, "model.tflite")
        run_in_process("convert", args.model, str(tflite_path))
        cases = [
            ("embedding, Keras", "at least 60 times real time", "embed", args.model, short_path),
            ("tagging, Keras", "–", "tag", args.model, long_path),
            ("tagging, LiteRT", "less than 400 MB", "tag", str(tflite_path), long_path),
        ]
        rows = []
        for title, goal, task, model, recording in cases:
            result = run_in_process(task, model, str(recording))
            cells = (
                f"{result['recording_seconds'] / 60:.0f} min",
                f"{result['seconds']:.1f} s",
                f"{result['processor_seconds']:.1f} s",
                f"{result['recording_seconds'] / result['seconds']:.0f}",
                f"{result['peak_mb']:.0f} MB",
            )
            rows.append((title, *cells, goal))
    print(f"{args.model}, one core, load average {os.getloadavg()[0]:.1f} at the end\n")
    header = ("what", "recording", "time", "processor time", "times real time", "peak memory", "goal")
    print_table("tagging", header, rows, args.record)


def write_recording(path: Path, seconds: float, repeated: str | None, sample_rate: int = 32_000) -> None:
    """Write a FLAC file of bursts of noise or of a repeated recording."""
    if repeated is None:
        rng = np.random.default_rng(0)
        bursts = np.repeat(rng.uniform(0, 0.2, 20), sample_rate // 2)
        part = (bursts * rng.standard_normal(len(bursts))).clip(-1, 1).astype(np.float32)
    else:
        from kerastag import audio

        part = audio.load(repeated, sample_rate)
    with soundfile.SoundFile(path, "w", sample_rate, 1) as file:
        num_remaining = round(seconds * sample_rate)
        while num_remaining > 0:
            file.write(part[:num_remaining])
            num_remaining -= len(part)


def run_in_process(task: str, model: str, recording: str) -> dict[str, float]:
    """Run one measurement in a new process on one core."""
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, __file__, "--measure", task, model, recording],
        env={**os.environ, **threads, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure(task: str, model: str, recording: str) -> dict[str, float]:
    """Run `convert`, `embed` or `tag`, and return its time and the peak memory of this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if task == "convert":
        convert(model, Path(recording))
        return {}
    from kerastag.tagger import Tagger

    tagger = Tagger.load(model)
    function = {"embed": tagger.embed, "tag": tagger.tag}[task]
    sample_rate = tagger.card.sample_rate
    function(np.zeros(50 * sample_rate, np.float32), sample_rate=sample_rate)  # traces the graph
    start, processor = time.perf_counter(), time.process_time()
    function(recording)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor
    # The unit is kilobytes on Linux and bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    return {
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "recording_seconds": soundfile.info(recording).duration,
        "peak_mb": peak,
    }


def convert(model: str, output: Path) -> None:
    """Convert a Keras model to a TFLite file in float32 that takes one window."""
    from kerastag.export import export_model, read_target
    from kerastag.tagger import fetch_model

    export_model(fetch_model(model), read_target("float32"), output)


if __name__ == "__main__":
    main()
