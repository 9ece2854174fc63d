"""Parsers of verbs."""

import argparse
from typing import Any

__all__ = ["add_forwarding_verb", "add_verb", "get_options"]


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


def get_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a verb by name, without those that every verb has."""
    return {name: value for name, value in vars(args).items() if name not in ("verb", "debug")}
