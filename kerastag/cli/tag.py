"""`kerastag tag`: tag recordings."""

import argparse
import sys
from typing import Any

from kerastag.cli.parsers import add_channel_option, add_class_selection, add_event_options, add_verb, get_options


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "tag", "Tag recordings.")
    parser.add_argument(
        "paths", nargs="+", metavar="FILE", help="Audio files, folders of them, or - for standard input."
    )
    parser.add_argument(
        "--model",
        help="Path of a .keras or .tflite file, or name of a model, such as mn04_as (default: esc10, bundled).",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "litert", "keras"),
        default="auto",
        help="What runs a named model: litert, for which it is exported once, or keras (default: litert if installed).",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="Number of processes (default: 1).")
    parser.add_argument("--plot", metavar="PNG", help="Draw log-mel and tags over time, for one recording.")
    parser.add_argument(
        "--pooling",
        choices=("max", "mean"),
        default="max",
        help="Pooling over the windows of a long recording (default: max).",
    )
    add_channel_option(parser)
    tags = parser.add_argument_group("tags")
    tags.add_argument("--top", type=int, default=5, help="Largest number of tags per recording (default: 5).")
    add_class_selection(tags)
    thresholds = tags.add_mutually_exclusive_group()
    thresholds.add_argument(
        "--threshold",
        type=float,
        help="Least probability of a tag (default: 0), or at which an event begins (default: that of the model).",
    )
    thresholds.add_argument(
        "--thresholds", choices=("card",), help="Use the threshold of each class that the card of the model has."
    )
    events = add_event_options(parser, "Show when each class begins and ends.")
    events.add_argument("--clips", metavar="DIR", help="Folder for the part of the recording of each event.")
    events.add_argument(
        "--clip-format", choices=("flac", "wav"), default="flac", help="Format of the clips (default: flac)."
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        choices=("table", "json", "jsonl", "csv", "raven", "audacity"),
        default="table",
        help="Format of the output (default: table).",
    )
    output.add_argument("--timeline", action="store_true", help="Show the probabilities of the tags over time.")
    output.add_argument(
        "--output-dir", metavar="DIR", help="Write one file per recording, and skip recordings that have one there."
    )
    output.add_argument("--overwrite", action="store_true", help="Replace the files in --output-dir instead.")


def run(args: argparse.Namespace) -> int:
    """Tag the recordings."""
    from kerastag.bundled import BUNDLED_MODEL
    from kerastag.tagger.reports import tag_recordings

    if args.model is None:
        args.model = BUNDLED_MODEL
        hint = f"using {BUNDLED_MODEL}, the bundled model of ten classes; --model mn04_as has 527"
        print(f"kerastag tag: {hint}", file=sys.stderr)
    num_failed = tag_recordings(**get_options(args))
    return 1 if num_failed else 0
