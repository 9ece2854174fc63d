"""Accuracy, size and speed of exported files: mAP on AudioSet, megabytes, and time compared with YAMNet.

    python benchmarks/export.py --models RUN_OR_KERAS... [--packs FOLDER] [--yamnet yamnet.tflite] [--threads 1]

Every model is exported to `--output` with each target and compared with Keras; a refused export is a row that states
the difference. Then YAMNet and all files that take audio run in turns, one window each, and so do the heads; the table
has medians. Quote only numbers of a quiet machine.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _figures import add_record_flag, describe_environment, print_table

ROUNDS = 60
TARGETS = ("float32", "float16", "int8_dynamic", "int8", "tflite_runtime")
LEVELS = (1.0, 0.05, 0.005)
INPUTS = ("waveform", "log_mel")
HEADER = (
    "file",
    "size",
    "mAP, Keras",
    "lost by the file",
    "ms per window",
    "YAMNet's windows",
    "ms per second of audio",
    "relative to YAMNet",
)
YAMNET_SECONDS = 0.975


def main() -> None:
    """Export, measure in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mn04_as"], help="Paths of .keras files or runs, or presets.")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), help=f"Targets (default: {' '.join(TARGETS)}).")
    parser.add_argument(
        "--inputs", nargs="+", default=list(INPUTS), choices=INPUTS, help="Inputs of models that take audio."
    )
    parser.add_argument("--packs", help="Folder with eval.h5 and bal_train.h5, for models of embeddings.")
    parser.add_argument("--recordings", help="Folder or pack of recordings to calibrate int8 models that take audio.")
    parser.add_argument("--audio-pack", "--audio_pack", help="Evaluation pack of waveforms for models of audio.")
    parser.add_argument(
        "--yamnet", default="../shared/data/weights/yamnet.tflite", help="Path of YAMNet; skipped if it is absent."
    )
    parser.add_argument("--output", default="runs/export", help="Folder of the exported files (default: runs/export).")
    parser.add_argument("--threads", type=int, default=1, help="Number of threads of the interpreter.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="Number of timed calls per file.")
    add_record_flag(parser)
    args = parser.parse_args()

    print(describe_environment())
    rows = [row for model in args.models for row in export_all(model, args)]
    times = measure_times([row["path"] for row in rows if "path" in row], args)
    yamnet = times.get("yamnet")
    cells = [make_row(row, times, yamnet) for row in rows]
    if yamnet:
        milliseconds, seconds = yamnet
        size = format_size(Path(args.yamnet))
        per_second = f"{milliseconds / seconds:.3f}"
        cells.append(["YAMNet, waveform", size, "–", "–", f"{milliseconds:.2f}", "1", per_second, "1"])
    print(f"\nmAP at {', '.join(map(str, LEVELS))} of the level of the recordings\n")
    print_table("export", HEADER, cells, args.record)


def export_all(model: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Export a model with each target and input, and measure the mAP of each file."""
    from kerastag.edge.runtime import LiteRTModel
    from kerastag.export import export_model, read_target
    from kerastag.export.inputs import PackInputs
    from kerastag.export.parity import compute_map, predict_reference
    from kerastag.export.preparation import prepare_model
    from kerastag.export.source import read_source
    from kerastag.tagger import fetch_model
    from kerastag.training.run_folder import RunFolder

    path, card = Path(model), None
    if path.is_dir():
        card = RunFolder.open(path).card()
    else:
        path = fetch_model(model)
    source = read_source(path, card)
    takes_embeddings = source.network.inputs[0].name == "embedding"
    levels = LEVELS[:1] if takes_embeddings else LEVELS
    packs = args.packs if takes_embeddings else args.audio_pack
    recordings = Path(packs, "bal_train.h5") if takes_embeddings and packs else args.recordings
    rows: list[dict[str, Any]] = []
    keras_maps: dict[tuple[str, float], float] = {}
    for name in args.targets:
        for input_name in ("embedding",) if takes_embeddings else args.inputs:
            target = dataclasses.replace(read_target(name), input=input_name)
            output = Path(args.output, f"{path.parent.name}_{path.stem}_{input_name}_{name}.tflite")
            title = path.parent.name if path.name.startswith("seed_") else path.stem
            parts = (title, name) if takes_embeddings else (title, input_name.replace("_", "-"), name)
            row: dict[str, Any] = {"name": ", ".join(parts), "maps": []}
            rows.append(row)
            try:
                report = export_model(path, target, output, recordings=recordings, card=card)
            except (ValueError, ImportError) as error:
                row["error"] = str(error)
                print(row["error"], file=sys.stderr, flush=True)
                continue
            print(report.as_markdown(), file=sys.stderr, flush=True)
            row["path"] = output
            prepared = prepare_model(source, target)
            for level in levels if packs else ():
                clips = PackInputs(packs, prepared, level)
                if (input_name, level) not in keras_maps:
                    keras_maps[input_name, level] = compute_map(
                        lambda batch, prepared=prepared: predict_reference(prepared, batch), clips
                    )
                row["maps"].append((keras_maps[input_name, level], compute_map(LiteRTModel(output), clips)))
    return rows


def measure_times(paths: list[Path], args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Measure the median time of a window in milliseconds, and its length in seconds, by file.

    All files run one after the other in each round. The window of a split head is a segment, the unit of a stream.
    """
    from kerastag.edge.runtime import LiteRTModel
    from kerastag.export.device import make_noise_run

    runs: dict[str, tuple[Callable[[], object], float]] = {}
    for path in paths:
        model = LiteRTModel(path, args.threads)
        seconds = model.card.window_seconds if model.split is None else model.card.seconds_per_frame or 0.0
        runs[path.stem] = make_noise_run(model), seconds
    if Path(args.yamnet).is_file():
        runs["yamnet"] = load_yamnet(Path(args.yamnet), args.threads), YAMNET_SECONDS
    milliseconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, (run, _) in runs.items():
            start = time.perf_counter()
            run()
            milliseconds[name].append(1e3 * (time.perf_counter() - start))
    return {name: (float(np.median(values)), runs[name][1]) for name, values in milliseconds.items()}


def load_yamnet(path: Path, num_threads: int) -> Callable[[], object]:
    """Load YAMNet's own file as a function that processes one window."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(path), num_threads=num_threads)
    interpreter.allocate_tensors()
    (details,) = interpreter.get_input_details()
    window = (0.1 * np.random.default_rng(0).standard_normal(details["shape"])).astype(np.float32)

    def run() -> None:
        interpreter.set_tensor(details["index"], window)
        interpreter.invoke()

    return run


def make_row(
    row: dict[str, Any], times: dict[str, tuple[float, float]], yamnet: tuple[float, float] | None
) -> list[str]:
    """Make the cells of a row of the table."""
    if "error" in row:
        return [row["name"], f"refused: {row['error']}", "", "", "", "", "", ""]
    milliseconds, seconds = times[row["path"].stem]
    per_second = milliseconds / seconds
    return [
        row["name"],
        format_size(row["path"]),
        " / ".join(f"{keras:.4f}" for keras, _ in row["maps"]) or "–",
        " / ".join(f"{keras - file:.4f}".replace("-", "−") for keras, file in row["maps"]) or "–",
        f"{milliseconds:.2f}",
        f"{milliseconds / yamnet[0]:.2f}" if yamnet else "–",
        f"{per_second:.3f}",
        f"{per_second / (yamnet[0] / yamnet[1]):.2f}" if yamnet else "–",
    ]


def format_size(path: Path) -> str:
    """Format the size of a file in MB."""
    return f"{path.stat().st_size / 1e6:.2f} MB"


if __name__ == "__main__":
    main()
