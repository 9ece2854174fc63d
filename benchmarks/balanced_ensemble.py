"""An ensemble of different systems from AudioSet's 22,160 balanced clips, whose members are chosen on held-out clips.

    python benchmarks/balanced_ensemble.py --data-dir PACKS --runs RUNS [--seeds S ...] [--jobs N]

Every candidate is trained with what `balanced_best.py` found to help: natural order, mixup, a higher learning rate,
more steps. Each is trained without the held-out clips. Then, starting from the best one, the candidate that raises
the held-out mAP of the mean of predictions most is added, until none raises it by 0.0005. The members are trained
again on all clips, with each of the seeds, and evaluated together on `eval`. Finished runs are left unchanged, so the
same command can be repeated.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from _figures import add_record_flag, print_table
from _runs import Run, run_all
from balanced_best import HELD_OUT

from kerastag._command import prepare_tensorflow
from kerastag.metrics import compute_metrics
from kerastag.recipes._evaluation import predict_run
from kerastag.training.report import METRIC_NAMES, format_metrics_row

MIN_GAIN = 0.0005
COMMON = {"balance": 0.0, "mixup": 1.0, "steps": 6000, "learning_rate": 2e-3, "evaluate_every": 6000}
# Recipe, and what differs from the overlay `balanced` with COMMON.
CANDIDATES: list[tuple[str, dict]] = [
    ("feature_attention", {"learning_rate": 4e-3}),
    ("feature_attention", {"learning_rate": 8e-3}),
    *(("feature_attention", {"phi": phi, "learning_rate": 4e-3}) for phi in ("softmax", "exp", "nin")),
    ("feature_attention", {"depth": 1}),
    ("feature_attention", {"units": 2048}),
    *((recipe, {}) for recipe in ("multi_attention", "decision_attention", "jdc", "es_average")),
]


def name_candidate(recipe: str, changes: Mapping[str, object]) -> str:
    """Return the name of a candidate."""
    return "_".join([recipe, *(f"{key}={value}" for key, value in sorted(changes.items()))])


def make_runs(folder: Path, data_dir: str, seeds: Sequence[int], hold_out: float) -> dict[str, list[Run]]:
    """Return the runs of every candidate by name, one per seed."""
    runs: dict[str, list[Run]] = {}
    for recipe, changes in CANDIDATES:
        name = name_candidate(recipe, changes)
        flags = {"config": "balanced", "data_dir": data_dir, "hold_out": hold_out, **COMMON, **changes}
        runs[name] = [Run(recipe, folder / name / f"seed_{seed}", {**flags, "seed": seed}) for seed in seeds]
    return runs


def choose_members(predictions: Mapping[str, np.ndarray], targets: np.ndarray) -> dict[str, float]:
    """Choose the members of the ensemble and return the mAP after each of them, in order.

    Args:
        predictions: Probabilities `(clips, classes)` by name of the candidate.
        targets: Labels `(clips, classes)`.
    """
    chosen: dict[str, float] = {}
    total, best_map = np.zeros(()), 0.0
    while candidates := [name for name in predictions if name not in chosen]:
        maps = {n: compute_metrics(targets, (total + predictions[n]) / (len(chosen) + 1)).map for n in candidates}
        best = max(candidates, key=maps.__getitem__)
        if chosen and maps[best] < best_map + MIN_GAIN:
            break
        chosen[best] = best_map = maps[best]
        total = total + predictions[best]
    return chosen


def predict(runs: Sequence[Run], jobs: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the targets `(clips, classes)`, and the predictions of every finished run, `jobs` runs at a time."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(_predict, [run.folder for run in runs]))
    return results[0][0], [predictions for _, predictions in results]


def _predict(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    data, predictions = predict_run(folder)
    return data.targets, predictions


def main() -> int:
    """Choose, train and evaluate the ensemble."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="Folder of packs.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder of run folders.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="Seeds of the members on all clips.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of runs at a time.")
    add_record_flag(parser)
    arguments = parser.parse_args()
    prepare_tensorflow()

    candidates = make_runs(arguments.runs / "held_out", arguments.data_dir, [0], HELD_OUT)
    held_out = {name: runs[0] for name, runs in candidates.items()}
    if failed := run_all(list(held_out.values()), arguments.jobs):
        print(f"cannot choose: {len(failed)} of {len(held_out)} candidates are not finished", file=sys.stderr)
        return 1
    rows = [
        (name, *(f"{run.metrics()[part]['map']:.4f}" for part in ("ensemble", "last")))
        for name, run in held_out.items()
    ]
    print()
    header = ("candidate", "held-out mAP: mean of checkpoints", "last")
    print_table("balanced_candidates", header, rows, arguments.record)
    targets, predictions = predict(list(held_out.values()), arguments.jobs)
    chosen = choose_members(dict(zip(held_out, predictions, strict=True)), targets)
    print()
    members = [(n, f"{value:.4f}") for n, value in chosen.items()]
    print_table("balanced_members", ("with", "held-out mAP"), members, arguments.record)

    all_clips = make_runs(arguments.runs / "all", arguments.data_dir, arguments.seeds, 0.0)
    runs = [run for name in chosen for run in all_clips[name]]
    if run_all(runs, arguments.jobs):
        return 1
    targets, predictions = predict(runs, arguments.jobs)
    names = [f"{run.folder.parent.name}, {run.folder.name}" for run in runs]
    scored = zip([*names, "the mean"], [*predictions, np.mean(predictions, axis=0)], strict=True)
    rows = [format_metrics_row(name, compute_metrics(targets, scores)) for name, scores in scored]
    print()
    print_table("balanced_ensemble", ("trained on all clips, on eval", *METRIC_NAMES), rows, arguments.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
