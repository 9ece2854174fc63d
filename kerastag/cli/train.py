"""`kerastag train`: train a published system."""

import argparse
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from kerastag.cli.parsers import add_forwarding_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    add_forwarding_verb(subparsers, "train", "Train a published system: kerastag train NAME [--help].")


def run(args: argparse.Namespace) -> int:
    """Train the system."""
    name, *arguments = args.arguments or [""]
    if not name.isidentifier() or name.startswith("_") or find_spec(f"kerastag.recipes.{name}") is None:
        raise ValueError(f"`NAME` must be the name of a recipe, such as es_min; received: {name!r}")
    return import_module(f"kerastag.recipes.{name}").main(arguments)
