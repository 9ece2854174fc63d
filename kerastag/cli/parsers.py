"""Parsers of verbs."""

import argparse
from typing import Any

__all__ = [
    "add_channel_option",
    "add_class_selection",
    "add_column_options",
    "add_event_options",
    "add_forwarding_verb",
    "add_label_options",
    "add_verb",
    "get_label_options",
    "get_options",
]


def add_verb(subparsers: Any, name: str, description: str) -> argparse.ArgumentParser:
    """Add the parser of a verb, with the option `--debug`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=description, description=description)
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    return parser


def add_forwarding_verb(subparsers: Any, name: str, description: str) -> None:
    """Add a parser that stores all arguments of a verb in `arguments`, `--help` included, for another parser."""
    # No argument begins with the prefix NUL, so that all of them are positional.
    parser = subparsers.add_parser(name, help=description, description=description, prefix_chars="\0", add_help=False)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="Arguments; --help lists them.")


def add_channel_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--channel`."""
    parser.add_argument(
        "--channel",
        default="mean",
        metavar="CHANNEL",
        help="Channel of recordings with several: mean, left, right, loudest, or a number from 1 (default: mean).",
    )


def add_class_selection(parser: argparse._ActionsContainer) -> None:
    """Add the option `--classes`, which selects classes of a model."""
    parser.add_argument(
        "--classes", nargs="+", default=(), metavar="CLASS", help="Names or identifiers of the only classes to use."
    )


def add_event_options(parser: argparse.ArgumentParser, description: str) -> argparse._ArgumentGroup:
    """Add the options of events, with a description of `--events`, and return their group."""
    events = parser.add_argument_group("events")
    events.add_argument("--events", action="store_true", help=description)
    events.add_argument(
        "--off-threshold", type=float, metavar="P", help="Probability at which an event ends (default: half)."
    )
    for option, text in (
        ("--smoothing-seconds", "Length of the median filter"),
        ("--min-seconds", "Length of the shortest event"),
        ("--max-gap-seconds", "Longest pause within an event"),
        ("--refractory-seconds", "Shortest time between two events of a class"),
    ):
        events.add_argument(option, type=float, metavar="S", help=f"{text} (default: that of the model, or 0).")
    return events


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of recordings with labels, whose names are those of the arguments of `read_audio_list`."""
    parser.add_argument(
        "--labels",
        dest="list_file",
        metavar="TABLE",
        help="Table with a column of file names and one of labels, or one of ESC-50, UrbanSound8K, FSD50K, DCASE, "
        "AudioSet, Raven, Audacity or Whombat; or a folder with one table for each recording.",
    )
    parser.add_argument("--classes", metavar="CSV", help="Class list that sets the classes and their order.")
    add_column_options(parser)
    parser.add_argument(
        "--excerpts",
        choices=("cut", "mask", "whole"),
        default="cut",
        help="What labels with a start and an end make of a recording: a clip of each labeled part (cut), silence "
        "outside of the labeled parts (mask), or the whole recording (default: cut).",
    )


def add_column_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of tables whose columns have unusual names."""
    parser.add_argument("--path-column", metavar="NAME", help="Column of file names, such as path or filename.")
    parser.add_argument(
        "--label-column", metavar="NAME", help="Column of labels, such as labels or category; a tag key of Whombat."
    )
    parser.add_argument(
        "--separator", metavar="TEXT", help="Separator of several labels in a cell (default: ; or | or a comma)."
    )


def get_label_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `read_audio_list`, with the class list read."""
    from kerastag.labels import LabelSet

    names = ("list_file", "path_column", "label_column", "separator", "excerpts")
    classes = LabelSet.from_csv(args.classes) if args.classes else None
    return {name: getattr(args, name) for name in names} | {"classes": classes}


def get_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a verb by name, without those that every verb has."""
    return {name: value for name, value in vars(args).items() if name not in ("verb", "debug")}
