"""`kerastag archive search`: search an archive by an example or by a class."""

import argparse
import sys
from typing import Any

from kerastag.cli.parsers import add_channel_option, add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "archive-search", "Search an archive, by an example or by a class.")
    parser.add_argument("example", nargs="?", metavar="EXAMPLE", help="Audio file to find similar sounds of.")
    parser.add_argument("--archive", required=True, metavar="DIR", help="Folder that `kerastag archive` wrote.")
    parser.add_argument("--class", dest="class_name", metavar="CLASS", help="Name or identifier of a class to find.")
    parser.add_argument("--top", type=int, default=50, help="Largest number of results (default: %(default)s).")
    parser.add_argument("--model", help="Path of the model of the archive, where it is not where it was.")
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="Format of the output (default: table)."
    )
    parser.add_argument("--clips", metavar="DIR", help="Folder for excerpts, cut from the recordings.")
    parser.add_argument(
        "--clip-format", choices=("flac", "wav"), default="flac", help="Format of the excerpts (default: flac)."
    )
    add_channel_option(parser)


def run(args: argparse.Namespace) -> int:
    """Search the archive."""
    if (args.example is None) == (args.class_name is None):
        raise ValueError("either EXAMPLE or `--class` must be given")
    try:
        from kerastag.archive.search import format_matches, search_class, search_example, write_matches
    except ImportError as error:
        raise ImportError(f"archives need pyarrow ({error}): pip install 'kerastag[archive]'") from error
    if args.class_name is not None:
        result = search_class(args.class_name, args.archive, top=args.top)
    else:
        result = search_example(args.example, args.archive, top=args.top, model=args.model, channel=args.channel)
    print(format_matches(result.matches, args.format), end="")
    if args.clips is not None:
        paths = write_matches(result, args.clips, args.clip_format, args.channel)
        print(f"{args.clips}: {len(paths)} excerpts", file=sys.stderr)
    return 0
