"""Benchmark of streaming on a device: mn04 with an attention head on one core, its memory, and its first result.

    python benchmarks/streaming.py [--model FILE.keras|PRESET] [--minutes 10] [--repeats 7]

Each streaming mode runs in its own process, on one core, without a framework: bursts of noise at 48 kHz, in blocks of
0.1 s, are resampled, converted to log-mel frames and tagged. Without `--model` mn04 has random weights, which are as
fast. The front end is compared with its formula in plain NumPy, in turns; times are medians. Quote only measurements of
an idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _figures import Table, add_record_flag, describe_environment, print_table

ROOT = Path(__file__).resolve().parent.parent
DEVICE_RATE, BLOCK_SECONDS = 48_000, 0.1
MODES = {
    "incremental": "mn04 on each second, attention head on ten",
    "windowed": "mn04 on the last 10 s, every second",
}
GOALS = "goals: real-time factor 0.05, 120 MB resident, first result 2 s after its audio, import 0.3 s"


def main() -> None:
    """Convert the models, measure each mode in its own process, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", help="Tagger of the mn family: a .keras file or a preset (default: mn04, random weights)."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="Duration of the audio, minutes (default: 10).")
    parser.add_argument(
        "--repeats", type=int, default=7, help="Number of repetitions of measurements in turns (default: 7)."
    )
    parser.add_argument("--measure", nargs=2, metavar=("TARGET", "FOLDER"), help=argparse.SUPPRESS)
    add_record_flag(parser)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args)))
        return
    print(f"{describe_environment()}, one core used")
    with tempfile.TemporaryDirectory() as folder:
        measure_in_process("convert", folder, args)
        modes = {mode: measure_in_process(mode, folder, args) for mode in MODES}
        imports = [measure_in_process("import", folder, args)["seconds"] for _ in range(args.repeats)]
        front_ends = measure_in_process("front_end", folder, args)
    print(f"\nimport of StreamingTagger: {statistics.median(imports):.3f} s, median of {len(imports)}\n")
    print_table("streaming", *format_modes(modes), args.record)
    print()
    print_table("streaming_front_ends", *format_front_ends(front_ends), args.record)
    print(f"\nload average {os.getloadavg()[0]:.1f} at the end; {GOALS}")


def format_modes(modes: dict[str, dict[str, float]]) -> Table:
    """Return the header and the rows of the table of the streaming modes."""
    rows = [
        (
            f"{mode}: {MODES[mode]}",
            f"{values['file_mb']:.1f} MB",
            f"{values['real_time_factor']:.4f}",
            f"{1e3 * values['latency_p50']:.1f} / {1e3 * values['latency_p99']:.1f} ms",
            f"{values['first_result']:.2f} s",
            f"{values['resident_mb']:.0f} MB",
            f"{values['peak_mb']:.0f} MB",
        )
        for mode, values in modes.items()
    ]
    columns = ("files", "real-time factor", "per result, p50 / p99", "first result", "resident memory", "peak memory")
    return ("what", *columns), rows


def format_front_ends(front_ends: dict[str, dict[str, float]]) -> Table:
    """Return the header and the rows of the table of the front ends."""
    columns = ("plain formula, dense product", "kerastag, 1 s at once", "kerastag, 0.1 s blocks")
    rows = [
        (name, *(f"{times[key]:.2f}" for key in ("plain", "whole", "blocks"))) for name, times in front_ends.items()
    ]
    return ("front end, ms per second of audio", *columns), rows


def measure_in_process(target: str, folder: str, args: argparse.Namespace) -> dict[str, Any]:
    """Call `measure` in a new process with one thread."""
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    model = [] if args.model is None else ["--model", args.model]
    flags = ["--minutes", str(args.minutes), "--repeats", str(args.repeats), *model]
    result = subprocess.run(
        [sys.executable, __file__, "--measure", target, folder, *flags],
        env={**os.environ, **threads, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure(target: str, folder: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure `import`, `front_end` or a streaming mode, or `convert` the models."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if target == "convert":
        convert_models(args.model, Path(folder))
        return {}
    if target == "import":
        return {"seconds": measure_import()}
    if target == "front_end":
        return measure_front_ends(args.repeats)
    names = ["embedder", "head"] if target == "incremental" else ["windowed"]
    return measure_stream([Path(folder, f"{name}.tflite") for name in names], args.minutes)


def measure_import() -> float:
    """Measure the import of the tagger, and of NumPy, in a new interpreter, seconds."""
    statement = "from kerastag.edge import StreamingTagger"
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    return float(
        subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8"
        ).stdout
    )


def measure_stream(paths: list[Path], minutes: float) -> dict[str, float]:
    """Measure speed, latency and memory of a stream with the models in these files."""
    audio = np.load(paths[0].with_name("audio.npy"))  # Generating it here would need memory that a device does not.
    start = time.perf_counter()
    from kerastag.edge import StreamingTagger

    tagger = StreamingTagger(*paths)
    # The first result, from a cold start, when all of its audio is there.
    results = tagger.feed(audio[: round((tagger.hop_seconds + 0.2) * DEVICE_RATE)], DEVICE_RATE)
    first_result = time.perf_counter() - start
    assert results, "the first hop has a result"
    tagger.flush()
    block_samples, stats_before = round(BLOCK_SECONDS * DEVICE_RATE), tagger.compute_stats()
    wall_start, processor_start = time.perf_counter(), time.process_time()
    blocks = round(60 * minutes / BLOCK_SECONDS)
    for index in range(blocks):
        offset = index * block_samples % (len(audio) - block_samples + 1)
        tagger.feed(audio[offset : offset + block_samples], DEVICE_RATE)
    seconds = max(time.perf_counter() - wall_start, time.process_time() - processor_start)
    stats = tagger.compute_stats()
    assert stats.results - stats_before.results >= int(60 * minutes / tagger.hop_seconds) - 1
    import resource

    # In kilobytes on Linux, and in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    return {
        "first_result": first_result,
        "real_time_factor": seconds / (blocks * BLOCK_SECONDS),
        "latency_p50": stats.latency_p50,
        "latency_p99": stats.latency_p99,
        "resident_mb": stats.resident_bytes / 1e6,
        "peak_mb": peak,
        "file_mb": sum(path.stat().st_size for path in paths) / 1e6,
    }


def measure_front_ends(repeats: int) -> dict[str, dict[str, float]]:
    """Measure each front end, computed in three ways in turns, milliseconds per second of audio."""
    from kerastag.dsp import FRONT_ENDS, StreamingLogMel

    medians = {}
    for name, front_end in FRONT_ENDS.items():
        second = (0.1 * np.random.default_rng(0).standard_normal(front_end.sample_rate)).astype(np.float32)
        stream, block = StreamingLogMel(front_end), len(second) // 10
        functions: dict[str, Callable[[], Any]] = {
            "plain": lambda f=front_end, x=second: compute_plain_log_mel(f, x),
            "whole": lambda s=stream, x=second: s.feed(x),
            "blocks": lambda s=stream, x=second, n=block: [s.feed(x[i : i + n]) for i in range(0, len(x), n)],
        }
        np.testing.assert_allclose(
            compute_plain_log_mel(front_end, second), front_end.compute_log_mel(second), atol=1e-3
        )
        times: dict[str, list[float]] = {key: [] for key in functions}
        for _ in range(20 * repeats):
            for key, function in functions.items():
                start = time.perf_counter()
                function()
                times[key].append(1e3 * (time.perf_counter() - start))
        medians[name] = {key: statistics.median(values) for key, values in times.items()}
    return medians


def compute_plain_log_mel(front_end: Any, waveform: np.ndarray) -> np.ndarray:
    """Compute the formula of `FrontEnd` line by line, with the dense matrix."""
    if front_end.preemphasis:
        waveform = waveform[1:] - np.float32(front_end.preemphasis) * waveform[:-1]
    padded = np.pad(waveform, front_end.padding, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, front_end.window_length)[:: front_end.hop_length]
    spectrum = np.abs(np.fft.rfft(frames * front_end.window, front_end.fft_length)).astype(np.float32)
    mel = (spectrum**2 if front_end.spectrum == "power" else spectrum) @ front_end.mel_matrix
    if front_end.log == "natural":
        return (np.log(mel + np.float32(front_end.floor)) + np.float32(front_end.shift)) / np.float32(front_end.scale)
    return (10 * np.log10(np.maximum(mel, np.float32(front_end.floor))) + front_end.shift) / front_end.scale


def convert_models(model: str | None, folder: Path) -> None:
    """Write ten seconds of audio, and the files of the tagger, an embedder of one second and an untrained head."""
    import dataclasses

    from kerastag.card import Card, write_card
    from kerastag.edge.runtime import LiteRTModel
    from kerastag.export import export_model, read_target
    from kerastag.models import MODELS
    from kerastag.tagger import fetch_model

    bursts = np.repeat(np.random.default_rng(0).uniform(0, 0.2, 20), DEVICE_RATE // 2)
    audio = (bursts * np.random.default_rng(1).standard_normal(len(bursts))).clip(-1, 1)
    np.save(folder / "audio.npy", audio.astype(np.float32))
    tagger = save_untrained_mn04(folder / "tagger.keras") if model is None else fetch_model(model)
    float32 = read_target("float32")
    log_mel = dataclasses.replace(float32, input="log_mel")
    export_model(tagger, dataclasses.replace(log_mel, outputs=("clipwise", "framewise")), folder / "windowed.tflite")
    export_model(tagger, log_mel, folder / "embedder.tflite", segment_seconds=1.0)
    embedder = LiteRTModel(folder / "embedder.tflite")
    head = MODELS["feature_attention"].build(num_features=embedder.output_shapes["embedding"][-1])
    head.save(folder / "head.keras")
    versions = {"embedder": embedder.card.versions["embedder"]}
    write_card(folder / "head.keras", dataclasses.replace(Card.read(tagger), seconds_per_frame=1.0, versions=versions))
    export_model(folder / "head.keras", read_target("streaming_head"), folder / "head.tflite")


def save_untrained_mn04(path: Path) -> Path:
    """Save mn04 with random weights, which are as fast as trained ones."""
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
