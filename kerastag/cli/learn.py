"""`kerastag learn`: train a tagger of the user's own sounds for a device."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_forwarding_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    add_forwarding_verb(subparsers, "learn", "Train a tagger of your own sounds and prepare it for a device.")


def run(args: argparse.Namespace) -> int:
    """Train the tagger."""
    from kerastag.custom.__main__ import main

    return main(args.arguments, "learn")
