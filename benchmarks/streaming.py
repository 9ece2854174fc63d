"""What streaming costs a device: mn04 with an attention head on one core, its memory, and how soon it speaks.

    python benchmarks/streaming.py [--model FILE.keras|PRESET] [--minutes 10] [--repeats 7]

Each way of streaming runs in a process of its own, on one core, without a framework: noise in bursts at 48 kHz, in
blocks of 0.1 s, is resampled, turned into log-mel frames and heard. Without `--model` mn04 has random weights, which
costs the same. The front end is timed beside the plain NumPy of its formula, one after the other in turns; medians.
Quote the figures of a quiet machine only.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DEVICE_RATE, BLOCK_SECONDS = 48_000, 0.1
WAYS = {
    "incremental": "mn04 a second, attention head on ten",
    "windowed": "mn04 on the last 10 s, every second",
}
GOALS = "goals: real-time factor 0.05, 120 MB resident, first result 2 s after its audio, import 0.3 s"


def main() -> None:
    """Convert the models, measure each way in its own process, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="an mn tagger: a .keras file or a preset (default: mn04, random weights)")
    parser.add_argument("--minutes", type=float, default=10.0, help="audio to stream (default: 10)")
    parser.add_argument("--repeats", type=int, default=7, help="of what is timed in turns (default: 7)")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one used; Python {sys.version[:6]}")
    print(", ".join(f"{name} {version(name)}" for name in ("numpy", "soxr", "ai-edge-litert", "tflite-runtime")))
    with tempfile.TemporaryDirectory() as folder:
        in_a_process("convert", folder, arguments)
        rows = {way: in_a_process(way, folder, arguments) for way in WAYS}
        imports = [in_a_process("import", folder, arguments)["seconds"] for _ in range(arguments.repeats)]
        front_end = in_a_process("front_end", folder, arguments)
    print(f"\n`import kerastag.edge`: {statistics.median(imports):.3f} s, median of {len(imports)}\n")
    print_ways(rows, arguments.minutes)
    print_front_end(front_end)
    print(f"\nload average {os.getloadavg()[0]:.1f} at the end; {GOALS}")


def print_ways(rows: dict[str, dict[str, float]], minutes: float) -> None:
    """A row a way of streaming."""
    print(
        f"| {minutes:g} min of audio | files | real-time factor | result, p50 / p99 | first result | resident | peak |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for way, row in rows.items():
        latency = f"{1e3 * row['latency_p50']:.1f} / {1e3 * row['latency_p99']:.1f} ms"
        memory = f"{row['resident_mb']:.0f} MB | {row['peak_mb']:.0f} MB"
        sizes = f"{row['file_mb']:.1f} MB | {row['real_time_factor']:.4f}"
        print(f"| {way}: {WAYS[way]} | {sizes} | {latency} | {row['first_result']:.2f} s | {memory} |")


def print_front_end(rows: dict[str, dict[str, float]]) -> None:
    """A row a front end."""
    print(
        "\n| front end, ms a second of audio | plain formula, dense product | ours, 1 s at once | ours, 0.1 s blocks |"
    )
    print("| --- | --- | --- | --- |")
    for name, row in rows.items():
        print(f"| {name} | {row['plain']:.2f} | {row['whole']:.2f} | {row['blocks']:.2f} |")


def version(package: str) -> str:
    """A package's version, or that it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def in_a_process(what: str, folder: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a fresh interpreter, on one core unless it only converts."""
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    model = [] if arguments.model is None else ["--model", arguments.model]
    flags = ["--minutes", str(arguments.minutes), "--repeats", str(arguments.repeats), *model]
    result = subprocess.run(
        [sys.executable, __file__, "--measure", what, folder, *flags],
        env={**os.environ, **threads, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure(what: str, folder: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One of `convert`, `import`, `front_end` and the ways of streaming."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if what == "convert":
        convert(arguments.model, Path(folder))
        return {}
    if what == "import":
        return {"seconds": import_seconds()}
    if what == "front_end":
        return front_end_times(arguments.repeats)
    files = ["embedder", "head"] if what == "incremental" else ["windowed"]
    return stream([Path(folder, f"{name}.tflite") for name in files], arguments.minutes)


def import_seconds() -> float:
    """What the import takes in a fresh interpreter, NumPy's included."""
    code = "import time; t = time.perf_counter(); import kerastag.edge; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout)


def stream(files: list[Path], minutes: float) -> dict[str, float]:
    """Files of a tagger -> what streaming with it takes."""
    audio = np.load(files[0].with_name("audio.npy"))  # NumPy's random numbers are no memory of a device's
    start = time.perf_counter()
    from kerastag.edge import StreamingTagger

    tagger = StreamingTagger(*files)
    # All the audio of the first result is there: how long until it is given, from a cold start.
    first = tagger.feed(audio[: round((tagger.hop_seconds + 0.2) * DEVICE_RATE)], DEVICE_RATE)
    first_result = time.perf_counter() - start
    assert first, "the first hop gives a result"
    tagger.flush()
    block, before = round(BLOCK_SECONDS * DEVICE_RATE), tagger.stats()
    began, processor = time.perf_counter(), time.process_time()
    blocks = round(60 * minutes / BLOCK_SECONDS)
    for index in range(blocks):
        place = index * block % (len(audio) - block + 1)
        tagger.feed(audio[place : place + block], DEVICE_RATE)
    seconds = max(time.perf_counter() - began, time.process_time() - processor)
    stats = tagger.stats()
    assert stats.results - before.results >= int(60 * minutes / tagger.hop_seconds) - 1
    import resource

    # Linux counts kilobytes, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    return {
        "first_result": first_result,
        "real_time_factor": seconds / (blocks * BLOCK_SECONDS),
        "latency_p50": stats.latency_p50,
        "latency_p99": stats.latency_p99,
        "resident_mb": stats.resident_bytes / 1e6,
        "peak_mb": peak,
        "file_mb": sum(path.stat().st_size for path in files) / 1e6,
    }


def front_end_times(repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds a second of audio, by front end and way of computing it; the ways take turns."""
    from kerastag.dsp import FRONT_ENDS, StreamingLogMel

    found = {}
    for name, front_end in FRONT_ENDS.items():
        second = (0.1 * np.random.default_rng(0).standard_normal(front_end.sample_rate)).astype(np.float32)
        stream, block = StreamingLogMel(front_end), len(second) // 10
        ways: dict[str, Callable[[], Any]] = {
            "plain": lambda f=front_end, x=second: plain_log_mel(f, x),
            "whole": lambda s=stream, x=second: s.feed(x),
            "blocks": lambda s=stream, x=second, n=block: [s.feed(x[i : i + n]) for i in range(0, len(x), n)],
        }
        np.testing.assert_allclose(plain_log_mel(front_end, second), front_end.compute_log_mel(second), atol=1e-3)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(20 * repeats):
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                times[way].append(1e3 * (time.perf_counter() - start))
        found[name] = {way: statistics.median(values) for way, values in times.items()}
    return found


def plain_log_mel(front_end: Any, waveform: np.ndarray) -> np.ndarray:
    """The formula of `FrontEnd`, line by line, with the dense matrix."""
    if front_end.preemphasis:
        waveform = waveform[1:] - np.float32(front_end.preemphasis) * waveform[:-1]
    padded = np.pad(waveform, front_end.padding, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, front_end.window_length)[:: front_end.hop_length]
    spectrum = np.abs(np.fft.rfft(frames * front_end.window, front_end.fft_length)).astype(np.float32)
    mel = (spectrum**2 if front_end.spectrum == "power" else spectrum) @ front_end.mel_matrix
    if front_end.log == "natural":
        return (np.log(mel + np.float32(front_end.floor)) + np.float32(front_end.shift)) / np.float32(front_end.scale)
    return (10 * np.log10(np.maximum(mel, np.float32(front_end.floor))) + front_end.shift) / front_end.scale


def convert(model: str | None, folder: Path) -> None:
    """Ten seconds of audio; as .tflite files the tagger, its embedder of a second, and an untrained attention head."""
    import dataclasses

    from kerastag.card import Card, write_card
    from kerastag.edge.runtime import LiteRTModel
    from kerastag.export import export_model, read_target
    from kerastag.models import MODELS
    from kerastag.tagger import model_file

    bursts = np.repeat(np.random.default_rng(0).uniform(0, 0.2, 20), DEVICE_RATE // 2)
    audio = (bursts * np.random.default_rng(1).standard_normal(len(bursts))).clip(-1, 1)
    np.save(folder / "audio.npy", audio.astype(np.float32))
    tagger = untrained_mn04(folder / "tagger.keras") if model is None else model_file(model)
    float32 = read_target("float32")
    hears = dataclasses.replace(float32, input="log_mel")
    export_model(tagger, dataclasses.replace(hears, outputs=("clipwise", "framewise")), folder / "windowed.tflite")
    export_model(tagger, hears, folder / "embedder.tflite", segment_seconds=1.0)
    embedder = LiteRTModel(folder / "embedder.tflite")
    head = MODELS["feature_attention"].build(num_features=embedder.output_shapes["embedding"][-1])
    head.save(folder / "head.keras")
    pair = {"embedder": embedder.card.versions["embedder"]}
    write_card(folder / "head.keras", dataclasses.replace(Card.read(tagger), seconds_per_frame=1.0, versions=pair))
    export_model(folder / "head.keras", read_target("streaming_head"), folder / "head.tflite")


def untrained_mn04(path: Path) -> Path:
    """Where to write it -> mn04 with random weights, which cost a device what trained ones do."""
    from kerastag.card import Card, write_card
    from kerastag.dsp import FRONT_ENDS
    from kerastag.labels import LabelSet
    from kerastag.models.backbones.mn import mn

    front_end = FRONT_ENDS["efficientat"]
    mn(527, width=0.4).save(path)
    write_card(path, Card(LabelSet.audioset(), front_end.sample_rate, 10.0, 0.32, front_end.as_dict()))
    return path


if __name__ == "__main__":
    main()
