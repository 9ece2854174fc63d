"""Every run behind the tables of paper 1 in RESULTS.md: the rows of recipes/paper1.toml on the balanced clips.

    python benchmarks/paper1.py --data-dir PACKS --runs RUNS [--only ROW ...] [--seeds S ...] [--jobs N]

Finished runs are left unchanged and interrupted ones are resumed, so the same command can be repeated. It ends with
the tables. `--list` shows the runs.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from _figures import add_record_flag, record
from _runs import Run, is_finished, print_state, run_all

from kerastag.recipes._papers import read_paper
from kerastag.recipes._results import Run as FinishedRun
from kerastag.recipes._results import read_run
from kerastag.recipes._tables import write_tables
from kerastag.training.report import METRIC_NAMES, format_metrics_row

PUBLISHED = {
    "bal_train: clips with one class": "896,045 of 2,084,320, full",
    "bal_train: clips with two classes": "684,166 of 2,084,320, full",
    "es_average: mAP of evaluation clips": "0.274 balanced, 0.317 full",
    "es_average: AP of Bagpipes": "0.873 balanced, 0.884 full",
    "es_average: AP of Harpsichord": "0.754 full",
    "es_average: AP of Hiccup": "0.076 full",
}
"""Values of the paper for rows of `describe_classes`, with what they are of."""

CLASSES = ("Bagpipes", "Harpsichord", "Hiccup")
"""Classes whose AP the paper states."""


def collect_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of finished runs, one per row of the paper and seed."""
    header = ["row", "seed", *METRIC_NAMES, "last: mAP"]
    rows = []
    for run in filter(lambda run: is_finished(run.folder), runs):
        metrics = run.metrics()
        last = f"{metrics['last']['map']:.4f}" if metrics.get("last") else "–"
        name = str(run.flags["row"])
        rows.append([name, str(run.flags["seed"]), *format_metrics_row(name, metrics["ensemble"])[1:], last])
    return header, rows


def describe_classes(run: FinishedRun) -> Iterator[list[str]]:
    """Describe what figures 4, 6 and 7 show of a run, as rows of what, value and value of the paper."""
    values = {}
    for split, counts in run.metrics["labels_per_clip"].items():
        values[f"{split}: clips with one class"] = f"{counts['1']:,}"
        values[f"{split}: clips with two classes"] = f"{counts['2']:,}"
        per_class = run.metrics["class_counts"][split]
        values[f"{split}: clips per class"] = f"{min(per_class):,} to {max(per_class):,}"
    system = run.folder.system
    for part, name in (("train", "training"), ("ensemble", "evaluation")):
        values[f"{system}: mAP of {name} clips"] = f"{run.metrics[part]['map']:.3f}"
    for name in CLASSES:
        average_precision = run.metrics["ensemble"]["average_precision"][run.names.index(name)]
        values[f"{system}: AP of {name}"] = f"{average_precision:.3f}"
    for name, value in values.items():
        yield [name, value, PUBLISHED.get(name, "–")]


def compare_classes(runs: Mapping[str, FinishedRun]) -> Iterator[list[str]]:
    """Count the classes in which one system has a higher AP than another, which figures 8 and 9 show."""
    for system, other in combinations(("feature_attention", "decision_attention", "es_average"), 2):
        if system in runs and other in runs:
            pairs = [runs[name].metrics["ensemble"]["average_precision"] for name in (system, other)]
            higher = sum(a > b for a, b in zip(*pairs, strict=True))
            yield [f"classes in which {system} has a higher AP than {other}", f"{higher} of {len(pairs[0])}", "–"]


def main() -> int:
    """Run the driver."""
    rows = {name: row for name, row in read_paper("paper1").rows.items() if row.seeds}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="Folder of packs.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder of run folders.")
    parser.add_argument("--only", nargs="+", choices=rows, metavar="ROW", help="Only these rows.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Only these seeds.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of runs at a time.")
    parser.add_argument("--list", action="store_true", help="List the runs and whether they are finished.")
    add_record_flag(parser)
    arguments = parser.parse_args()
    runs = [
        Run(
            rows[name].recipe,
            arguments.runs / name / f"seed_{seed}",
            {"row": name, "config": "balanced", "seed": seed, "data_dir": arguments.data_dir},
        )
        for name in arguments.only or rows
        for seed in arguments.seeds or rows[name].seeds
    ]
    if arguments.list:
        print_state(runs)
        return 0
    failed = run_all(runs, arguments.jobs)
    if folders := [run.folder for run in runs if is_finished(run.folder)]:
        print(write_tables(folders, arguments.runs / "tables"))
        if arguments.record:
            record("paper1", *collect_rows(runs))
            with (arguments.runs / "tables/table_III.csv").open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            record("paper1_correlations", header, [[cell or "–" for cell in row] for row in rows])
            finished = {run.folder.system: run for run in map(read_run, reversed(folders))}  # the first of each system
            if "es_average" in finished:
                classes = [*describe_classes(finished["es_average"]), *compare_classes(finished)]
                record("paper1_classes", ["what", "value", "paper"], classes)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
