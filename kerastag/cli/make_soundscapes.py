"""`kerastag make-soundscapes`: mix weakly labeled soundscapes whose events are known."""

import argparse
from dataclasses import fields
from typing import Any

from kerastag.cli.parsers import add_label_options, add_verb, get_label_options

_RECORDINGS_ONLY = {"list_file": "labels", "classes": "classes", "split": "split", "background_dir": "background_dir"}


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
    add_label_options(parser)
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
    parser.add_argument("--soundscape-seconds", type=float, help="Length of a soundscape (default: 10).")
    parser.add_argument("--scene-seconds", dest="soundscape_seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--min-events", type=int, help="Smallest number of events (default: 1).")
    parser.add_argument("--max-events", type=int, help="Largest number of events (default: 4).")
    parser.add_argument("--max-event-seconds", type=float, help="Length to which events are cut (default: 5).")
    parser.add_argument("--max-overlap", type=int, help="Largest number of simultaneous events (default: 3).")
    parser.add_argument(
        "--max-other-sounds",
        type=int,
        metavar="N",
        help="Largest number of synthetic sounds of no class: noises, tones, speech-like and others (default: 0).",
    )
    parser.add_argument("--empty-share", type=float, help="Share of the soundscapes without events (default: 0).")
    for option, text in (
        ("--snr-db", "Level of events relative to the background (default: 0 20)."),
        ("--background-db", "Level of the background (default: -55 -35)."),
    ):
        parser.add_argument(option, type=float, nargs=2, metavar=("LOW", "HIGH"), help=text)


def run(args: argparse.Namespace) -> None:
    """Mix the soundscapes and print a report."""
    from kerastag.data.soundscape_mixer import SoundscapeConfig
    from kerastag.data.soundscapes import make_soundscapes, parse_counts, write_synthetic_soundscapes
    from kerastag.data.splits import DEFAULT_SPLITS, Split

    if args.synthetic == (args.audio_dir is not None):
        raise ValueError("`audio_dir` or `synthetic` must be given, and not both")
    names = [field.name for field in fields(SoundscapeConfig)]
    config = SoundscapeConfig(**{name: value for name in names if (value := getattr(args, name, None)) is not None})
    options = {
        "config": config,
        "seed": args.seed,
        "sample_rate": args.sample_rate,
        "with_audio": args.audio,
        "with_jams": args.jams,
        "progress": None,
    }
    if args.synthetic:
        for name, option in _RECORDINGS_ONLY.items():
            if value := getattr(args, name):
                raise ValueError(f"`{option}` must not be given with `synthetic`; received: {value!r}")
        counts = parse_counts(args.count)
        reports = list(write_synthetic_soundscapes(args.output, counts=counts, **options).values())
    else:
        splits = [Split.parse(text) for text in args.split] if args.split else DEFAULT_SPLITS
        reports = make_soundscapes(
            args.audio_dir,
            args.output,
            splits=splits,
            counts=parse_counts(args.count, splits),
            background_dir=args.background_dir,
            skip_corrupt=args.skip_corrupt,
            **get_label_options(args),
            **options,
        )
    for report in reports:
        print(report)
