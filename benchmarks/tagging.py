"""How fast and how large tagging is: embedding on one core, and an hour of sound through Keras and through LiteRT.

    python benchmarks/tagging.py [--model mn04_as] [--minutes 60] [--recording FILE]

Each measurement is a process of its own on one core; its memory is the largest that the process ever had. The hour is
a FLAC file of noise in bursts, or `--recording` again and again. Quote the figures of a quiet machine only.
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

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED_SECONDS = 300.0
GOALS = {"embed": "at least 60 times real time", "litert": "less than 400 MB"}


def main() -> None:
    """Write the recordings and the model, measure each way in its own process, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mn04_as", help="a .keras file or a preset")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the long recording (default: 60)")
    parser.add_argument("--recording", help="what the long recording repeats (default: noise in bursts)")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "MODEL", "RECORDING"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder, "long.flac"), Path(folder, "short.flac")
        write_recording(long, 60 * arguments.minutes, arguments.recording)
        write_recording(short, EMBEDDED_SECONDS, arguments.recording)
        lite = Path(folder, "model.tflite")
        in_a_process("convert", arguments.model, str(lite))
        rows = [
            ("embed", "embedding, Keras", in_a_process("embed", arguments.model, str(short))),
            ("keras", "tagging, Keras", in_a_process("tag", arguments.model, str(long))),
            ("litert", "tagging, LiteRT", in_a_process("tag", str(lite), str(long))),
        ]
    print(f"{arguments.model}, one core, load average {os.getloadavg()[0]:.1f} at the end\n")
    print("| what | recording | time | of the processor | times real time | peak memory | goal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for what, title, row in rows:
        speed = f"{row['seconds_of_sound'] / row['seconds']:.0f}"
        times = f"{row['seconds_of_sound'] / 60:.0f} min | {row['seconds']:.1f} s | {row['processor_seconds']:.1f} s"
        sizes = f"{times} | {speed} | {row['peak_mb']:.0f} MB"
        print(f"| {title} | {sizes} | {GOALS.get(what, '–')} |")


def write_recording(path: Path, seconds: float, repeated: str | None, sample_rate: int = 32_000) -> None:
    """A FLAC file of that length, ten seconds at a time."""
    if repeated is None:
        rng = np.random.default_rng(0)
        bursts = np.repeat(rng.uniform(0, 0.2, 20), sample_rate // 2)
        part = (bursts * rng.standard_normal(len(bursts))).clip(-1, 1).astype(np.float32)
    else:
        from kerastag import audio

        part = audio.load(repeated, sample_rate)
    with soundfile.SoundFile(path, "w", sample_rate, 1) as file:
        left = round(seconds * sample_rate)
        while left > 0:
            file.write(part[:left])
            left -= len(part)


def in_a_process(what: str, model: str, recording: str) -> dict[str, float]:
    """One measurement in a fresh interpreter on one core."""
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, __file__, "--measure", what, model, recording],
        env={**os.environ, **threads, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure(what: str, model: str, recording: str) -> dict[str, float]:
    """One of `convert`, `embed` and `tag`, with its time and this process's largest memory."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if what == "convert":
        convert(model, Path(recording))
        return {}
    from kerastag.tagger import Tagger

    tagger = Tagger.load(model)
    work = {"embed": tagger.embed, "tag": tagger.tag}[what]
    work(np.zeros(50 * tagger.card.sample_rate, np.float32), sample_rate=tagger.card.sample_rate)  # traces the graph
    start, processor = time.perf_counter(), time.process_time()
    work(recording)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor
    # Linux counts kilobytes, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    return {
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "seconds_of_sound": soundfile.info(recording).duration,
        "peak_mb": peak,
    }


def convert(model: str, output: Path) -> None:
    """A Keras model for one window of its card -> TFLite in float32."""
    from kerastag.export import export_model, read_target
    from kerastag.tagger import model_file

    export_model(model_file(model), read_target("float32"), output)


if __name__ == "__main__":
    main()
