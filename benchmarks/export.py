"""How good, small and fast exported files are: mAP on AudioSet, size, and time beside YAMNet, in one run.

    python benchmarks/export.py --models RUN_OR_KERAS... [--packs FOLDER] [--yamnet yamnet.tflite] [--threads 1]

Every model is exported by each target, through the parity gate, into `--output`; a target that the gate refuses says by
how much. Then all files that hear and YAMNet are run in turns, one window each, and so are the heads; the table has
medians. Quote the figures of a quiet machine only.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 60
HEARS = ("float32", "float16", "int8_dynamic", "int8", "tflite_runtime")
LEVELS = (1.0, 0.05, 0.005)
INPUTS = ("waveform", "log_mel")


def main() -> None:
    """Export, then measure in turns, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mn04_as"], help=".keras files, presets or runs")
    parser.add_argument("--targets", nargs="+", default=list(HEARS), help=f"default: {' '.join(HEARS)}")
    parser.add_argument("--inputs", nargs="+", default=list(INPUTS), choices=INPUTS, help="of models that hear")
    parser.add_argument("--packs", help="folder with eval.h5 and bal_train.h5, for models of embeddings")
    parser.add_argument("--recordings", help="folder or pack of recordings, for the ranges of int8 of models that hear")
    parser.add_argument("--audio_pack", help="evaluation pack of waveforms, for the models that hear")
    parser.add_argument("--yamnet", default="../shared/data/weights/yamnet.tflite", help="left out where it is absent")
    parser.add_argument("--output", default="runs/export", help="where the files go (default: runs/export)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    print(environment())
    rows = [row for model in arguments.models for row in exports(model, arguments)]
    timed = in_turns([row["path"] for row in rows if "path" in row], arguments)
    print(f"\nmAP at {', '.join(map(str, LEVELS))} of the recordings' level\n")
    print("| file | size | mAP, Keras | lost by the file | ms a window | ms a second of sound | YAMNet's |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    yamnet = timed.get("yamnet")
    for row in rows:
        print(line(row, timed, yamnet))
    if yamnet:
        times = f"{yamnet[0]:.2f} | {yamnet[0] / yamnet[1]:.3f} | 1"
        print(f"| yamnet | {row_size(Path(arguments.yamnet))} | – | – | {times} |")


def exports(model: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A model -> one row a target and input, with the report, or with what the gate said."""
    from kerastag.edge.runtime import LiteRTModel
    from kerastag.export.clips import evaluation_clips
    from kerastag.export.export import export
    from kerastag.export.parity import map_of, reference
    from kerastag.export.serving import serve
    from kerastag.export.source import read_source
    from kerastag.export.target import read_target
    from kerastag.tagger import model_file

    path = Path(model) if Path(model).is_dir() else model_file(model)
    source = read_source(path)
    embeds = source.network.inputs[0].name == "embedding"
    levels = LEVELS[:1] if embeds else LEVELS
    rows: list[dict[str, Any]] = []
    before: dict[tuple[str, float], float] = {}
    for name in arguments.targets:
        for given in ("embedding",) if embeds else arguments.inputs:
            target = dataclasses.replace(read_target(name), input=given)
            output = Path(arguments.output, f"{path.parent.name}_{path.stem}_{given}_{name}.tflite")
            packs = arguments.packs if embeds else arguments.audio_pack
            ranges = Path(packs, "bal_train.h5") if embeds and packs else arguments.recordings
            row: dict[str, Any] = {"name": output.stem, "maps": []}
            rows.append(row)
            try:
                report = export(path, target, output, recordings=ranges)
            except (ValueError, ImportError) as error:
                row["refused"] = str(error)
                print(row["refused"], file=sys.stderr, flush=True)
                continue
            print(report.table(), file=sys.stderr, flush=True)
            row["path"] = output
            served = serve(source, target)
            for level in levels if packs else ():
                clips = evaluation_clips(packs, served, level)
                if (given, level) not in before:
                    before[given, level] = map_of(lambda batch, served=served: reference(served, batch), clips)
                row["maps"].append((before[given, level], map_of(LiteRTModel(output), clips)))
    return rows


def in_turns(paths: list[Path], arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Files -> median milliseconds of a window, and its seconds, all files run one after the other in each round.

    Of a head in two the window is a segment: that is what a stream runs each time.
    """
    from kerastag.edge.runtime import LiteRTModel
    from kerastag.export.device import on_noise

    runs = {}
    for path in paths:
        model = LiteRTModel(path, arguments.threads)
        seconds = model.card.window_seconds if model.split is None else model.card.seconds_per_frame
        runs[path.stem] = on_noise(model), seconds
    if Path(arguments.yamnet).is_file():
        runs["yamnet"] = yamnet(Path(arguments.yamnet), arguments.threads), 0.975
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, (run, _) in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: (float(np.median(times)), runs[name][1]) for name, times in taken.items()}


def yamnet(path: Path, threads: int) -> Any:
    """YAMNet's own file -> a function that runs it on one window."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    window = (0.1 * np.random.default_rng(0).standard_normal(given["shape"])).astype(np.float32)

    def run() -> None:
        interpreter.set_tensor(given["index"], window)
        interpreter.invoke()

    return run


def line(row: dict[str, Any], timed: dict[str, tuple[float, float]], yamnet: tuple[float, float] | None) -> str:
    """A row of the table."""
    if "refused" in row:
        return f"| {row['name']} | refused: {row['refused']} | | | | | |"
    milliseconds, seconds = timed[row["name"]]
    before = " / ".join(f"{keras:.4f}" for keras, _ in row["maps"]) or "–"
    lost = " / ".join(f"{keras - file:.4f}" for keras, file in row["maps"]) or "–"
    beside = f"{milliseconds / seconds / (yamnet[0] / yamnet[1]):.2f}" if yamnet else "–"
    times = f"{milliseconds:.2f} | {milliseconds / seconds:.3f} | {beside}"
    return f"| {row['name']} | {row_size(row['path'])} | {before} | {lost} | {times} |"


def row_size(path: Path) -> str:
    """A file -> its size in MB, as text."""
    return f"{path.stat().st_size / 1e6:.2f} MB"


def environment() -> str:
    """The machine and the versions."""
    names = ("keras", "tensorflow", "ai-edge-litert", "ai-edge-quantizer", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    model = [text for text in Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("model name")]
    processor = model[0].split(":")[1].strip() if model else platform.processor()
    load = f"load average {os.getloadavg()[0]:.1f}"
    return f"{processor}, {os.cpu_count()} cores, {load}; Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
