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
    parser.add_argument(
        "--eval-pack", metavar="NAME", help="Pack to evaluate on, instead of the clips that the runs were evaluated on."
    )


def run(args: argparse.Namespace) -> None:
    """Evaluate the runs and print their metrics."""
    from kerastag.training.run_folder import RunFolder

    if len(args.run_folders) == 1 and RunFolder.open(args.run_folders[0]).system == "custom":
        if args.eval_pack:
            raise ValueError("`--eval-pack` must not be given for a run of `kerastag custom`, which has folds")
        from kerastag.custom import evaluate_custom_run

        evaluate_custom_run(args.run_folders[0])
        return
    from kerastag.recipes._evaluation import evaluate_ensemble, evaluate_run

    if len(args.run_folders) == 1:
        evaluate_run(args.run_folders[0], args.data_dir, args.eval_pack)
    else:
        evaluate_ensemble(args.run_folders, args.data_dir, args.eval_pack)
