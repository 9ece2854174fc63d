"""`kerastag compare`: do systems differ by more than chance?"""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb, get_options


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(
        subparsers,
        "compare",
        "Compare the mAP of finished runs by a paired bootstrap over clips and seeds: RUN... -- RUN... compares two "
        "systems and lists the classes that differ; without --, each system is compared with the next lower one.",
    )
    parser.add_argument("first", metavar="RUN", nargs="+", help="Folders of finished runs.")
    parser.add_argument(
        "--with", dest="second", metavar="RUN", nargs="+", help="Folders of the runs of the second system; also: --."
    )
    parser.add_argument("--data-dir", metavar="FOLDER", help="Folder of packs, if it has moved since the runs.")
    parser.add_argument("--num-samples", type=int, default=1000, help="Bootstrap samples (default: %(default)s).")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the samples (default: %(default)s).")
    parser.add_argument("--json", dest="output", metavar="FILE", help="JSON file to write the differences to.")


def run(args: argparse.Namespace) -> None:
    """Compare the runs and print the differences."""
    from kerastag.recipes._comparison import compare_neighbors, compare_runs, format_neighbors, save_comparisons

    options = get_options(args)
    first, second, output = (options.pop(name) for name in ("first", "second", "output"))
    if second:
        comparisons = [compare_runs(first, second, **options)]
        print(comparisons[0])
    else:
        comparisons = compare_neighbors(first, **options)
        print(format_neighbors(comparisons))
    if output:
        save_comparisons(comparisons, output)
