"""False alarms in 24 hours of other sounds: do taggers of `kerastag learn` keep what they promise?

    python benchmarks/false_alarms.py --recordings ESC10 --ambient FOLDER --other FOLDER [--hours 24] [--output DIR]

Two taggers learn five classes of ESC-10 each, with thresholds for `--per-day` false alarms per day that are chosen on
one half of `--ambient`; the interval that they promise is from the other half. Then their exported files tag a stream
that no part of this has used: the recordings of `--other`, such as speech in other languages and other music, and the
clips of the five classes that the tagger was not trained on, all at three levels, and synthetic sounds for the rest of
the hours. At the end come an hour each of silence, hiss, hum and tones, whose noises are of another generator and other
seeds than those of training and of the choice of thresholds. Finished runs and hours in `--output` are used again.
"""

import argparse
import io
import itertools
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _figures import add_record_flag, print_table

from kerastag.audio import read_blocks
from kerastag.audio.formats import find_audio_files
from kerastag.custom.ambient import AmbientHalf
from kerastag.data.other_sounds import OTHER_SOUNDS
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE
from kerastag.files import format_csv, write_bytes, write_text

LEVELS_DB = (0.0, -12.0, -24.0)
KINDS = ("silence", "faint noise", *OTHER_SOUNDS)
HOURS_OF_ONE_KIND = {
    "silence": ("silence",),
    "hiss": ("noise",),
    "hum": ("hum",),
    "tones": ("tone",),
}


def main() -> None:
    """Train two taggers, measure both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recordings",
        type=Path,
        required=True,
        help="Folder of ESC-10, with one folder per class.",
    )
    parser.add_argument("--ambient", type=Path, help="Folder of recordings to choose thresholds on.")
    parser.add_argument(
        "--other",
        type=Path,
        required=True,
        help="Folder of other recordings to measure on.",
    )
    parser.add_argument("--model", default="mn04_as", help="Backbone (default: mn04_as).")
    parser.add_argument(
        "--per-day",
        type=float,
        default=1.0,
        help="False alarms per day and class (default: 1).",
    )
    parser.add_argument(
        "--hours",
        type=float,
        default=24.0,
        help="Duration of the stream (default: 24).",
    )
    parser.add_argument(
        "--kind-hours",
        type=float,
        default=1.0,
        help="Duration of each other kind (default: 1).",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/false_alarms"),
        help="Folder of the runs.",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        help="Taggers that are measured at the same time (default: 2).",
    )
    add_record_flag(parser)
    args = parser.parse_args()
    names = sorted(path.name for path in args.recordings.iterdir() if path.is_dir())
    runs = [train_tagger(args, number, names[number::2]) for number in range(2)]
    folders = [[args.recordings / name for name in names[1 - number :: 2]] for number in range(2)]
    others = [[path for folder in group for path in list_files(folder)] for group in folders]
    # A process that is forked after TensorFlow was loaded may hang.
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as executor:
        rows = list(itertools.chain(*executor.map(measure_tagger, itertools.repeat(args), runs, others)))
    header = (
        "class",
        "threshold",
        "promised",
        "measured",
        "kept",
        "found",
        *HOURS_OF_ONE_KIND,
    )
    print_table("false_alarms", header, rows, args.record)
    print(f"\nat most the upper limit of the promise: {sum(row[4] == 'yes' for row in rows)} of {len(rows)} classes")


def train_tagger(args: argparse.Namespace, number: int, names: Sequence[str]) -> Path:
    """Train a tagger of some classes, unless there is one, and return its run folder."""
    from kerastag.custom.config import CustomConfig
    from kerastag.custom.run import train_custom_tagger

    table = args.output / f"classes_{number}.csv"
    rows = [(path.relative_to(args.recordings), name) for name in names for path in list_files(args.recordings / name)]
    write_text(table, format_csv([("path", "label"), *rows]))
    run = args.output / f"tagger_{number}"
    ambient = None if args.ambient is None else str(args.ambient)
    options: dict[str, Any] = {
        "deploy": True,
        "ambient": ambient,
        "run_dir": str(run),
    }
    options |= {
        "labels": str(table),
        "model": args.model,
        "false_alarms_per_day": args.per_day,
    }
    start = time.perf_counter()
    train_custom_tagger(CustomConfig(audio_dir=str(args.recordings), **options))
    print(f"{run}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return run


def measure_tagger(args: argparse.Namespace, run: Path, others: Sequence[Path]) -> list[tuple[object, ...]]:
    """Count the alarms of a tagger in sounds that are none of its classes, and return a row for each class."""
    from kerastag.custom.exported import find_exported
    from kerastag.training.run_folder import RunFolder

    folder = RunFolder.open(run)
    exported, promised = find_exported(folder), folder.metrics()["alarms"]
    sources = [args.other / path for path in find_audio_files(args.other)] + list(others)
    stream = read_stream(sources, 3600 * args.hours)
    counts, seconds = count_alarms(exported, predict_hours(exported, stream, run / f"stream_{args.hours:g}"))
    kinds: dict[str, Counter[str]] = {}
    for kind, parts in HOURS_OF_ONE_KIND.items():
        half = AmbientHalf(3, (), synthetic_hours=args.kind_hours)
        waveforms = (waveform for _, waveform in half.synthesize(parts))
        hours = predict_hours(exported, waveforms, run / f"stream_{kind}_{args.kind_hours:g}")
        kinds[kind], _ = count_alarms(exported, hours)
    rows = []
    for row in promised:
        low, high = row["per_day_interval"]
        per_day = counts[row["name"]] * 86_400 / seconds
        interval = f"{row['per_day']:.1f} ({low:.1f} to {high:.1f})"
        is_kept = "yes" if per_day <= max(high, args.per_day) else "no"
        cells = (
            row["name"],
            f"{row['threshold']:.3f}",
            interval,
            f"{per_day:.1f}",
            is_kept,
        )
        detected = f"{row['num_found']} of {row['num_events']}"
        rows.append((*cells, detected, *(kinds[kind][row["name"]] for kind in HOURS_OF_ONE_KIND)))
    return rows


def predict_hours(exported: Any, waveforms: Iterator[np.ndarray], folder: Path) -> Iterator[Any]:
    """Tag a stream hour by hour, and yield the predictions, which do not depend on thresholds and rules for events.

    `folder` gets a file for each hour, and an interrupted measurement continues with the next one.
    """
    from kerastag.custom.simulation import StreamPredictions, simulate_stream

    folder.mkdir(exist_ok=True)
    for number, hour in enumerate(split_hours(waveforms)):
        path = folder / f"{number:02}.npz"
        if path.is_file():
            for _ in hour:
                pass
            with np.load(path) as arrays:
                yield StreamPredictions(
                    arrays["framewise"], float(arrays["start"]), float(arrays["step"]), arrays["known"]
                )
            continue
        hours = simulate_stream(exported.open_stream(), hour, MIX_SAMPLE_RATE)
        buffer = io.BytesIO()
        places = {"start": hours.start_seconds, "step": hours.seconds_per_frame, "known": hours.known_seconds}
        np.savez_compressed(buffer, framewise=hours.framewise, **places)
        write_bytes(path, buffer.getvalue())
        print(f"{folder}: {number + 1} h", file=sys.stderr)
        yield hours


def count_alarms(exported: Any, hours: Iterable[Any]) -> tuple[Counter[str], float]:
    """Count the alarms of each class with the thresholds and rules of the card; return the duration in seconds, too."""
    from kerastag.card import Card
    from kerastag.custom.simulation import track_alarms
    from kerastag.events import create_event_rules

    card = Card.read(exported.head or exported.embedder)
    rules, counts, seconds = create_event_rules(card.event_rules, card.thresholds), Counter[str](), 0.0
    for predictions in hours:
        counts.update(card.labels.names[alarm.class_index] for alarm in track_alarms(predictions, rules))
        seconds += 3600 * predictions.hours
    return counts, seconds


def split_hours(waveforms: Iterator[np.ndarray]) -> Iterator[Iterator[np.ndarray]]:
    """Yield the waveforms of each hour of a stream, which must be used up before the next hour."""

    def take_hour(first: np.ndarray) -> Iterator[np.ndarray]:
        samples = len(first)
        yield first
        while samples < 3600 * MIX_SAMPLE_RATE and (waveform := next(waveforms, None)) is not None:
            samples += len(waveform)
            yield waveform

    while (first := next(waveforms, None)) is not None:
        yield take_hour(first)


def read_stream(sources: Sequence[Path], seconds: float) -> Iterator[np.ndarray]:
    """Read recordings at three levels one after the other, in random order, then synthetic sounds up to a duration."""
    order = np.random.default_rng(0).permutation(len(sources) * len(LEVELS_DB))
    position = 0.0
    for number in order.tolist():
        row, level = divmod(number, len(LEVELS_DB))
        try:
            for block in read_blocks(sources[row], MIX_SAMPLE_RATE):
                position += len(block) / MIX_SAMPLE_RATE
                if position > seconds:
                    return
                yield 10 ** (LEVELS_DB[level] / 20) * block
        except ValueError as error:
            print(f"skipped: {error}", file=sys.stderr)
    print(f"recordings: {position / 3600:.1f} h", file=sys.stderr)
    for _, waveform in AmbientHalf(2, (), synthetic_hours=max(0.0, seconds - position) / 3600).synthesize(KINDS):
        yield waveform


def list_files(folder: Path) -> list[Path]:
    """List the recordings of a class."""
    return [folder / path for path in find_audio_files(folder)]


if __name__ == "__main__":
    main()
