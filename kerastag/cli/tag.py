"""`kerastag tag`: tag recordings."""

import argparse
import sys
from typing import Any

from kerastag.cli.parsers import add_verb, get_options


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
    parser.add_argument("--top", type=int, default=5, help="Largest number of tags per recording (default: 5).")
    parser.add_argument("--threshold", type=float, default=0.0, help="Least probability of a tag (default: 0).")
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="Format of the output (default: table)."
    )
    parser.add_argument("--timeline", action="store_true", help="Show the probabilities of the tags over time.")
    parser.add_argument("--plot", metavar="PNG", help="Draw log-mel and tags over time, for one recording.")
    parser.add_argument(
        "--pooling",
        choices=("max", "mean"),
        default="max",
        help="Pooling over the windows of a long recording (default: max).",
    )


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
