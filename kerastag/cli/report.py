"""`kerastag report`: write the report of a run again."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "report", "Write report.html and predictions.csv of a run of `kerastag learn` again.")
    parser.add_argument("run_folder", metavar="RUN", help="Run folder.")


def run(args: argparse.Namespace) -> None:
    """Write the report and print its path."""
    from kerastag.custom.page import write_report
    from kerastag.training.run_folder import RunFolder

    print(write_report(RunFolder.open(args.run_folder)))
