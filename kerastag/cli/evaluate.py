"""`kerastag evaluate`: evaluate finished runs again."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "evaluate", "Evaluate finished runs again from their files.")
    parser.add_argument(
        "run_folders", metavar="RUN", nargs="+", help="Run folder; for several, their mean is evaluated too."
    )
    parser.add_argument("--data-dir", metavar="FOLDER", help="Folder of packs, if it has moved since the run.")


def run(args: argparse.Namespace) -> None:
    """Evaluate the runs and print their metrics."""
    from kerastag.recipes.evaluate import evaluate, evaluate_together

    if len(args.run_folders) == 1:
        evaluate(args.run_folders[0], args.data_dir)
    else:
        evaluate_together(args.run_folders, args.data_dir)
