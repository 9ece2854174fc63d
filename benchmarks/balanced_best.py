"""The search for the best single model of AudioSet's 22,160 balanced clips, on a held-out part of them.

    python benchmarks/balanced_best.py --data-dir PACKS --runs RUNS [--jobs N]

It starts from feature-level attention in natural order. Every idea changes one thing; then what helped is combined,
the best first, until three changes in a row gain less than 0.001 mAP; then the steps and the learning rate are
varied. The best of this search and of `benchmarks/balanced_ensemble.py` is the row `best` of recipes/paper1.toml,
which `benchmarks/paper1.py` trains on all clips. Finished runs are left unchanged, so the same command can be
repeated.
"""

import argparse
import sys
from pathlib import Path

from _figures import add_record_flag, record
from _runs import Run, is_finished, run_all

from kerastag.markdown import format_table

HELD_OUT = 0.15
START = {"balance": 0.0, "steps": 2000}
MIXED = {"balance": 0.0, "steps": 4000, "mixup": 1.0}
FAST = {**MIXED, "learning_rate": 2e-3}
# Flags of every run, stage by stage. Where there are more steps, the change slows learning down.
TRIALS: dict[str, list[dict]] = {
    "One change at a time": [
        START,
        {**START, "mixup": 0.2, "steps": 3000},
        {**START, "mixup": 0.5, "steps": 4000},
        MIXED,
        {**START, "learning_rate": 5e-4, "steps": 3000},
        {**START, "learning_rate": 2e-3},
        {**START, "batch_size": 250, "steps": 4000},
        {**START, "batch_size": 1000},
        *({**START, "phi": phi} for phi in ("softmax", "exp")),
        {**START, "units": 512, "steps": 3000},
        {**START, "units": 2048},
        *({**START, "depth": depth} for depth in (1, 2, 4)),
        {**START, "dropout": 0.3},
        {**START, "dropout": 0.6, "steps": 3000},
        {**START, "schedule": "cosine", "warmup_steps": 200},
        *({**START, "ema": decay} for decay in (0.995, 0.998)),
        *({**START, "weight_decay": decay} for decay in (0.02, 0.1)),
        *({**START, "label_smoothing": fraction} for fraction in (0.01, 0.05)),
        *({**START, "balance": fraction} for fraction in (0.25, 0.5)),
    ],
    "Together": [
        FAST,
        {**FAST, "batch_size": 250},
        {**FAST, "batch_size": 250, "phi": "exp"},
    ],
    "Steps and learning rate": [
        {**FAST, "steps": 6000},
        {**FAST, "steps": 8000},
        {**FAST, "steps": 6000, "learning_rate": 4e-3},
    ],
}


def main() -> int:
    """Run the search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="Folder of packs.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder of run folders.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of runs at a time.")
    add_record_flag(parser)
    arguments = parser.parse_args()
    common = {"config": "balanced", "data_dir": arguments.data_dir, "hold_out": HELD_OUT}

    def make_run(flags: dict) -> Run:
        name = "_".join(f"{key}={value}" for key, value in sorted(flags.items()))
        return Run("feature_attention", arguments.runs / name, {**common, **flags, "evaluate_every": flags["steps"]})

    stages = {title: [make_run(flags) for flags in trials] for title, trials in TRIALS.items()}
    failed = run_all([run for runs in stages.values() for run in runs], arguments.jobs)
    header, tables = ("flags", "held-out mAP: mean of checkpoints", "last"), []
    for title, runs in stages.items():
        rows = []
        for run, flags in zip(runs, TRIALS[title], strict=True):
            if is_finished(run.folder):
                metrics = [f"{run.metrics()[part]['map']:.4f}" for part in ("ensemble", "last")]
                rows.append((" ".join(f"--{key} {value}" for key, value in flags.items()), *metrics))
        print(f"\n{title}\n")
        tables += [(title, *row) for row in rows]
        print(format_table(header, rows))
    if arguments.record:
        record("balanced_best", ("stage", *header), tables)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
