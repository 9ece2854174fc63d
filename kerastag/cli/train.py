"""`kerastag train`: train a published system."""

import argparse
from importlib import import_module
from typing import Any

from kerastag.cli.parsers import add_forwarding_verb

_USAGE = """\
usage: kerastag train NAME [--config OVERLAY ...] [--row ROW] [options]
       kerastag train --row ROW [options]
       kerastag train --list

Train a published system, evaluate it and leave a run folder. `kerastag train NAME --help` lists the options of a
system, `--list` the rows of the papers' tables.

systems:
"""


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    add_forwarding_verb(subparsers, "train", "Train a published system: kerastag train NAME [--help].")


def run(args: argparse.Namespace) -> int:
    """Train the system."""
    from kerastag.recipes._papers import find_row, format_rows, recipe_names

    arguments = list(args.arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE + "\n".join(f"  {name}" for name in recipe_names()))
        return 0 if arguments else 2
    if arguments == ["--list"]:
        print(format_rows())
        return 0
    if arguments[0].startswith("-"):
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--row")
        row = parser.parse_known_args(arguments)[0].row
        if row is None:
            raise ValueError(f"`NAME` must be the name of a recipe; received: {arguments[0]!r}")
        name = find_row(row).recipe
    else:
        name, *arguments = arguments
    if name not in recipe_names():
        raise ValueError(f"`NAME` must be one of {', '.join(recipe_names())}; received: {name!r}")
    return import_module(f"kerastag.recipes.{name}").main(arguments)
