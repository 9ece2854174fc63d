"""`kerastag tables`: compare runs with the tables of the papers."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_forwarding_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    add_forwarding_verb(subparsers, "tables", "Compare finished runs with the tables of the papers.")


def run(args: argparse.Namespace) -> int:
    """Write the tables."""
    from kerastag.recipes.tables import main

    return main(args.arguments)
