"""`kerastag doctor`: describe the installation for a bug report."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    add_verb(subparsers, "doctor", "Describe the installation, for a bug report.")


def run(args: argparse.Namespace) -> None:
    """Print the description."""
    from kerastag.diagnostics import describe_installation

    print(describe_installation())
