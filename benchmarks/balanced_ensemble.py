"""An ensemble of different systems from AudioSet's 22,160 balanced clips, its members chosen on held-out clips.

    python benchmarks/balanced_ensemble.py --data_dir PACKS --runs RUNS [--seeds S ...] [--jobs N]

Every candidate learns with what `balanced_best` found to help: natural order, mixup, a higher rate, more steps. Each is
trained without the held-out clips; then, beginning with the best one, whichever raises the held-out mAP of the mean of
predictions most is added, until none raises it by 0.0005. Those are trained again on all the clips, with each of the
seeds, and measured together on `eval`. What is finished is left as it is, so the same command may be given again and
again.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from _runs import Run, run_all
from balanced_best import HELD_OUT

from kerastag._command import prepare_tensorflow
from kerastag.metrics import compute_metrics
from kerastag.recipes.evaluate import predictions_of

LEAST_GAIN = 0.0005
COMMON = {"balance": 0.0, "mixup": 1.0, "steps": 6000, "learning_rate": 2e-3, "evaluate_every": 6000}
# Recipe, and what differs from its `NAME_balanced.toml` with COMMON.
CANDIDATES: list[tuple[str, dict]] = [
    ("feature_attention", {"learning_rate": 4e-3}),
    ("feature_attention", {"learning_rate": 8e-3}),
    *(("feature_attention", {"phi": phi, "learning_rate": 4e-3}) for phi in ("softmax", "exp", "nin")),
    ("feature_attention", {"depth": 1}),
    ("feature_attention", {"units": 2048}),
    *((recipe, {}) for recipe in ("multi_attention", "decision_attention", "jdc", "es_average")),
]


def name_of(recipe: str, changes: Mapping[str, object]) -> str:
    return "_".join([recipe, *(f"{key}={value}" for key, value in sorted(changes.items()))])


def runs_in(folder: Path, data_dir: str, seeds: Sequence[int], hold_out: float) -> dict[str, list[Run]]:
    """Where and on what to train -> the runs of each candidate, one a seed."""
    found: dict[str, list[Run]] = {}
    for recipe, changes in CANDIDATES:
        name = name_of(recipe, changes)
        flags = {"config": f"{recipe}_balanced", "data_dir": data_dir, "hold_out": hold_out, **COMMON, **changes}
        found[name] = [Run(recipe, folder / name / f"seed_{seed}", {**flags, "seed": seed}) for seed in seeds]
    return found


def choose(predicted: Mapping[str, np.ndarray], targets: np.ndarray) -> dict[str, float]:
    """Probabilities (clips, classes) by name, and targets -> the members in their order, and the mAP with each."""
    chosen: dict[str, float] = {}
    total, reached = np.zeros(()), 0.0
    while left := [name for name in predicted if name not in chosen]:
        with_each = {name: compute_metrics(targets, (total + predicted[name]) / (len(chosen) + 1)).map for name in left}
        best = max(left, key=with_each.__getitem__)
        if chosen and with_each[best] < reached + LEAST_GAIN:
            break
        chosen[best] = reached = with_each[best]
        total = total + predicted[best]
    return chosen


def predict(runs: Sequence[Run], jobs: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Finished runs -> targets (clips, classes), and each one's mean of checkpoints, `jobs` runs at a time."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_predicted, [run.folder for run in runs]))
    return found[0][0], [probabilities for _, probabilities in found]


def _predicted(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    data, probabilities = predictions_of(folder)
    return data.targets, probabilities


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="folder of packs")
    parser.add_argument("--runs", type=Path, required=True, help="folder of run folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the members, on all the clips")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    arguments = parser.parse_args()
    prepare_tensorflow()

    held_out = {
        name: runs[0] for name, runs in runs_in(arguments.runs / "held_out", arguments.data_dir, [0], HELD_OUT).items()
    }
    if failed := run_all(list(held_out.values()), arguments.jobs):
        print(f"cannot choose: {len(failed)} of {len(held_out)} candidates are not finished", file=sys.stderr)
        return 1
    print("\n| candidate | held-out mAP: mean of checkpoints | last |\n| --- | --- | --- |")
    for name, run in held_out.items():
        print(f"| {name} | {' | '.join(format(run.figures()[part]['map'], '.4f') for part in ('ensemble', 'last'))} |")
    targets, predicted = predict(list(held_out.values()), arguments.jobs)
    chosen = choose(dict(zip(held_out, predicted, strict=True)), targets)
    print("\n| with | held-out mAP |\n| --- | --- |")
    print("\n".join(f"| {name} | {value:.4f} |" for name, value in chosen.items()), flush=True)

    on_all = runs_in(arguments.runs / "all", arguments.data_dir, arguments.seeds, 0.0)
    members = [run for name in chosen for run in on_all[name]]
    if run_all(members, arguments.jobs):
        return 1
    targets, predicted = predict(members, arguments.jobs)
    names = [f"{run.folder.parent.name}, {run.folder.name}" for run in members]
    print("\n| trained on all the clips, on eval | mAP | mAUC | d-prime |\n| --- | --- | --- | --- |")
    for name, scores in zip([*names, "the mean"], [*predicted, np.mean(predicted, axis=0)], strict=True):
        figures = compute_metrics(targets, scores)
        print(f"| {name} | {figures.map:.4f} | {figures.mauc:.4f} | {figures.d_prime:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
