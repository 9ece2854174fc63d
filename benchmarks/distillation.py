"""One network that learns from several systems: feature-level attention on AudioSet's 22,160 balanced clips.

    python benchmarks/distillation.py --data-dir PACKS --runs RUNS [--deep] [--seeds S ...] [--hold-out F] [--jobs N]

The teachers are JDC and feature-level attention with three phi, each with one hidden layer instead of three and with
fewer steps, as such networks learn fast and overfit early; multi attention, a member of `balanced_ensemble.py`, learns
too slowly for that. The student is the first teacher with the four as teachers and more steps. With `--deep`, the row
`best` of `recipes/paper1.toml` is a fifth teacher, which counts as much as the four, and the student is that row with
the five as teachers and more steps.

What a student takes from its teachers was set before any run, except for the weight of `best`: on held-out clips, the
mean of a network with three hidden layers and one with one is most accurate with half to two thirds of the former. The
table has the teachers, their mean, and the student. With `--hold-out 0.15`, everything is trained without these clips
and evaluated on them, and not on `eval`. Finished runs are left unchanged and interrupted ones are resumed, so the same
command can be repeated.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _figures import add_record_flag, print_table
from _runs import Run, run_all
from balanced_ensemble import name_candidate, predict

from kerastag._command import prepare_tensorflow
from kerastag.metrics import compute_metrics
from kerastag.metrics.classification import compute_d_prime
from kerastag.training.report import METRIC_NAMES, format_metrics_row

COMMON = {"balance": 0.0, "mixup": 1.0, "learning_rate": 4e-3}
TEACHERS: list[tuple[str, dict]] = [
    ("feature_attention", {"phi": "exp"}),
    ("feature_attention", {}),
    ("feature_attention", {"phi": "softmax"}),
    ("jdc", {}),
]
TEACHER_BATCHES = 200
# What differs between shallow and deep networks: their settings, and the steps of teachers and students.
SHALLOW, SHALLOW_STEPS = {"depth": 1}, (2000, 5000)
DEEP, DEEP_STEPS = {"row": "best"}, (6000, 9000)


def make_runs(arguments: argparse.Namespace) -> tuple[list[Run], list[int], list[Run]]:
    """Return the runs of the teachers, their weights, and the runs of the student."""
    common = {
        **COMMON,
        "config": "balanced",
        "data_dir": arguments.data_dir,
        "hold_out": arguments.hold_out,
        "precision": arguments.precision,
    }

    def make_run(recipe: str, name: str, steps: int, seed: int, **flags: object) -> Run:
        steps_flags = {"steps": steps, "evaluate_every": steps}
        return Run(recipe, arguments.runs / name, {**common, **steps_flags, **flags, "seed": seed})

    teachers = [
        make_run(recipe, name_candidate(recipe, changes), SHALLOW_STEPS[0], 0, **SHALLOW, **changes)
        for recipe, changes in TEACHERS
    ]
    weights = [1] * len(teachers)
    name, settings, steps = "student", {**SHALLOW, **TEACHERS[0][1]}, SHALLOW_STEPS[1]
    if arguments.deep:
        teachers.append(make_run("feature_attention", "best", DEEP_STEPS[0], 0, **DEEP))
        weights.append(sum(weights))
        name, settings, steps = "best_student", DEEP, DEEP_STEPS[1]
    paths = json.dumps([str(run.folder) for run, weight in zip(teachers, weights, strict=True) for _ in range(weight)])
    learning = {"teachers": paths, "teacher_batches": TEACHER_BATCHES}
    students = [
        make_run("feature_attention", f"{name}_{seed}", steps, seed, **settings, **learning) for seed in arguments.seeds
    ]
    return teachers, weights, students


def describe(name: str, runs: Sequence[Run], targets: np.ndarray, predictions: Sequence[np.ndarray]) -> list[str]:
    """Return a row: metrics of the mean of the checkpoints, and mAP of the last one, as means over runs."""
    metrics = [compute_metrics(targets, scores) for scores in predictions]
    values = {key: statistics.mean(getattr(each, key) for each in metrics) for key in ("map", "mauc")}
    values["d_prime"] = compute_d_prime(values["mauc"])
    last = statistics.mean(run.metrics()["last"]["map"] for run in runs)
    return [name, str(len(runs)), *format_metrics_row(name, values)[1:], f"{last:.4f}"]


def main() -> int:
    """Train the teachers and the student, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="Folder of packs.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder of run folders.")
    parser.add_argument("--deep", action="store_true", help="With `best` as a teacher and as the student.")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="Seeds of the student (default: 0 1 2)."
    )
    parser.add_argument(
        "--hold-out", type=float, default=0.0, help="Fraction of the clips to evaluate on (default: 0)."
    )
    parser.add_argument("--precision", default="mixed_bfloat16", help="Precision (default: mixed_bfloat16).")
    parser.add_argument("--jobs", type=int, default=1, help="Number of runs at a time.")
    add_record_flag(parser)
    arguments = parser.parse_args()
    prepare_tensorflow()

    teachers, weights, students = make_runs(arguments)
    if run_all(teachers, arguments.jobs) or run_all(students, arguments.jobs):
        return 1
    targets, predictions = predict(teachers, arguments.jobs)
    rows = [describe(run.folder.name, [run], targets, [each]) for run, each in zip(teachers, predictions, strict=True)]
    mean = compute_metrics(targets, np.average(predictions, axis=0, weights=weights))
    rows.append(["mean of these", "1", *format_metrics_row("", mean)[1:], "–"])
    student = teachers[-1 if arguments.deep else 0].folder.name
    rows.append(describe(f"{student}, with these as teachers", students, targets, predict(students, arguments.jobs)[1]))
    name = "distillation_deep" if arguments.deep else "distillation"
    print_table(name, ("system", "seeds", *METRIC_NAMES, "last: mAP"), rows, arguments.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
