"""`kerastag tables`: finished runs in the tables of the papers."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(
        subparsers,
        "tables",
        "Write all tables of the papers and the figures of paper 1, with the published metrics beside those of runs.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="Folder of a finished run.")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="Folder for the tables and figures.")
    parser.add_argument(
        "--label-quality",
        metavar="CSV",
        help="AudioSet's qa_true_counts.csv, for table III (default: that of kerastag fetch audioset_label_quality).",
    )


def run(args: argparse.Namespace) -> None:
    """Write the tables and print them."""
    from kerastag.recipes._tables import write_tables

    print(write_tables(args.runs, args.output, args.label_quality))
