"""Parsers of verbs."""

import argparse
from typing import Any

__all__ = ["add_forwarding_verb", "add_verb"]


def add_verb(subparsers: Any, name: str, description: str) -> argparse.ArgumentParser:
    """Add the parser of a verb, with the option `--debug`.

    Args:
        subparsers: Object that `ArgumentParser.add_subparsers` returned.
        name: Name of the verb.
        description: What the verb does, one sentence.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=description, description=description)
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    return parser


def add_forwarding_verb(subparsers: Any, name: str, description: str) -> argparse.ArgumentParser:
    """Add the parser of a verb whose arguments, `--help` included, are parsed by another parser.

    Args:
        subparsers: Object that `ArgumentParser.add_subparsers` returned.
        name: Name of the verb.
        description: What the verb does, one sentence.

    Returns:
        A parser that stores all arguments in `arguments`.
    """
    # No argument begins with the prefix NUL, so that all of them are positional.
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=description, description=description, prefix_chars="\0", add_help=False
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="Arguments; --help lists them.")
    return parser
