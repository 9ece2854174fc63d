"""`kerastag make-soundscapes`: mix weakly labeled soundscapes whose events are known."""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from kerastag.cli.parsers import add_verb

_RECORDINGS_ONLY = ("labels", "classes", "split", "background_dir")


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(
        subparsers,
        "make-soundscapes",
        "Mix recordings of single sounds into weakly labeled soundscapes with known events.",
    )
    parser.add_argument(
        "--audio-dir",
        metavar="FOLDER",
        help="Folder with one folder per class, or the base of the paths in --labels.",
    )
    parser.add_argument(
        "--synthetic", action="store_true", help="Mix synthetic sounds of five classes instead of recordings."
    )
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="Folder for a pack SPLIT.h5 and an event table SPLIT.tsv."
    )
    parser.add_argument("--labels", metavar="CSV", help="Table with the columns path,labels and optionally fold.")
    parser.add_argument("--classes", metavar="CSV", help="Class list that sets the classes and their order.")
    parser.add_argument(
        "--split",
        action="append",
        metavar="NAME=FOLDS[:SHARE%]",
        help="Recordings of a split, once per split, such as bal_train=1,2,3,4 or valid=1,2:10%% or eval=20%%. Folds "
        "are those of the CSV, or the part of a file name before the first hyphen "
        "(default: bal_train=80%% and eval=20%%).",
    )
    parser.add_argument(
        "--count", nargs="+", default=[], metavar="[NAME=]N", help="Number of soundscapes per split (default: 1000)."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the random numbers (default: %(default)s).")
    parser.add_argument("--sample-rate", type=int, default=32_000, help="Sample rate, Hz (default: %(default)s).")
    parser.add_argument(
        "--background-dir",
        metavar="FOLDER",
        help="Folder of background recordings (default: noise with a spectrum between pink and brown).",
    )
    parser.add_argument("--audio", action="store_true", help="Write each soundscape to SPLIT/NAME.wav too.")
    parser.add_argument("--jams", action="store_true", help="Write the events of each to SPLIT/NAME.jams too.")
    parser.add_argument("--skip-corrupt", action="store_true", help="Skip unreadable and silent recordings.")
    parser.add_argument("--scene-seconds", type=float, help="Length of a soundscape (default: 10).")
    parser.add_argument("--min-events", type=int, help="Smallest number of events (default: 1).")
    parser.add_argument("--max-events", type=int, help="Largest number of events (default: 4).")
    parser.add_argument("--max-event-seconds", type=float, help="Length to which events are cut (default: 5).")
    parser.add_argument("--max-overlap", type=int, help="Largest number of simultaneous events (default: 3).")
    parser.add_argument(
        "--snr-db",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="Level of events relative to the background (default: 0 20).",
    )
    parser.add_argument(
        "--background-db",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="Level of the background (default: -55 -35).",
    )


def run(args: argparse.Namespace) -> None:
    """Mix the soundscapes and print a report."""
    from kerastag.data.mixing import SceneRules
    from kerastag.data.splits import DEFAULT_SPLITS, Split
    from kerastag.data.soundscapes import make_scenes
    from kerastag.labels import LabelSet

    if args.synthetic == (args.audio_dir is not None):
        raise ValueError("`audio_dir` or `synthetic` must be given, one of them")
    values = {field.name: getattr(args, field.name, None) for field in fields(SceneRules)}
    rules = replace(SceneRules(), **{name: value for name, value in values.items() if value is not None})
    if args.synthetic:
        reports = _synthetic(args, rules)
    else:
        splits = [Split.parse(text) for text in args.split] if args.split else DEFAULT_SPLITS
        reports = make_scenes(
            args.audio_dir,
            args.output,
            list_file=args.labels,
            classes=LabelSet.from_csv(args.classes) if args.classes else None,
            splits=splits,
            counts=_counts(args.count, [split.name for split in splits]),
            rules=rules,
            seed=args.seed,
            sample_rate=args.sample_rate,
            background_dir=args.background_dir,
            skip_corrupt=args.skip_corrupt,
            with_audio=args.audio,
            with_jams=args.jams,
        )
    for report in reports:
        print(report)


def _synthetic(args: argparse.Namespace, rules: Any) -> list[Any]:
    from kerastag.data.splits import DEFAULT_SPLITS
    from kerastag.data.synthetic_events import write_synthetic_scenes

    for name in _RECORDINGS_ONLY:
        if getattr(args, name):
            raise ValueError(f"`{name}` is for recordings, not for `synthetic`")
    names = [split.name for split in DEFAULT_SPLITS]
    return list(
        write_synthetic_scenes(
            args.output,
            sample_rate=args.sample_rate,
            counts=_counts(args.count, names),
            rules=rules,
            seed=args.seed,
            with_audio=args.audio,
            with_jams=args.jams,
            progress=None,
        ).values()
    )


def _counts(texts: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    from kerastag.data.soundscapes import DEFAULT_COUNT

    counts = dict.fromkeys(names, DEFAULT_COUNT)
    for text in sorted(texts, key=lambda text: "=" in text):
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or (name and name not in names):
            raise ValueError(f"`count` must be N or NAME=N with NAME one of {', '.join(names)}; received: {text!r}")
        counts |= {name: int(number)} if name else dict.fromkeys(names, int(number))
    return counts
