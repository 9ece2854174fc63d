"""What was tried for the best model of AudioSet's 22,160 balanced clips, measured on a held-out part of them.

    python benchmarks/balanced_best.py --data_dir PACKS --runs RUNS [--jobs N]

It begins with feature-level attention in natural order. Each idea changes one thing; then what helped is put together,
the best first, until three changes in a row give less than 0.001 mAP; then the steps and the rate are varied.
`benchmarks/balanced_ensemble.py` goes on from there, `recipes/balanced_best.toml` has the best of both, and
`benchmarks/paper1.py` trains it on all the clips. What is finished is left as it is, so the same command may be given
again and again.
"""

import argparse
import sys
from pathlib import Path

from _runs import Run, finished, run_all

HELD_OUT = 0.15
BEGIN = {"balance": 0.0, "steps": 2000}
MIXED = {"balance": 0.0, "steps": 4000, "mixup": 1.0}
FAST = {**MIXED, "learning_rate": 2e-3}
# Flags of every run, stage by stage. Where steps are more, the change slows learning down.
TRIALS: dict[str, list[dict]] = {
    "One change at a time": [
        BEGIN,
        {**BEGIN, "mixup": 0.2, "steps": 3000},
        {**BEGIN, "mixup": 0.5, "steps": 4000},
        MIXED,
        {**BEGIN, "learning_rate": 5e-4, "steps": 3000},
        {**BEGIN, "learning_rate": 2e-3},
        {**BEGIN, "batch_size": 250, "steps": 4000},
        {**BEGIN, "batch_size": 1000},
        *({**BEGIN, "phi": phi} for phi in ("softmax", "exp")),
        {**BEGIN, "units": 512, "steps": 3000},
        {**BEGIN, "units": 2048},
        *({**BEGIN, "depth": depth} for depth in (1, 2, 4)),
        {**BEGIN, "dropout": 0.3},
        {**BEGIN, "dropout": 0.6, "steps": 3000},
        {**BEGIN, "schedule": "cosine", "warmup_steps": 200},
        *({**BEGIN, "ema": decay} for decay in (0.995, 0.998)),
        *({**BEGIN, "weight_decay": decay} for decay in (0.02, 0.1)),
        *({**BEGIN, "label_smoothing": share} for share in (0.01, 0.05)),
        *({**BEGIN, "balance": share} for share in (0.25, 0.5)),
    ],
    "Together": [
        FAST,
        {**FAST, "batch_size": 250},
        {**FAST, "batch_size": 250, "phi": "exp"},
    ],
    "Steps and rate": [
        {**FAST, "steps": 6000},
        {**FAST, "steps": 8000},
        {**FAST, "steps": 6000, "learning_rate": 4e-3},
    ],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="folder of packs")
    parser.add_argument("--runs", type=Path, required=True, help="folder of run folders")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    arguments = parser.parse_args()
    common = {"config": "feature_attention_balanced", "data_dir": arguments.data_dir, "hold_out": HELD_OUT}

    def run_of(flags: dict) -> Run:
        name = "_".join(f"{key}={value}" for key, value in sorted(flags.items()))
        return Run("feature_attention", arguments.runs / name, {**common, **flags, "evaluate_every": flags["steps"]})

    stages = {title: [run_of(flags) for flags in trials] for title, trials in TRIALS.items()}
    failed = run_all([run for runs in stages.values() for run in runs], arguments.jobs)
    for title, runs in stages.items():
        print(f"\n{title}\n\n| flags | held-out mAP: mean of checkpoints | last |\n| --- | --- | --- |")
        for run, flags in zip(runs, TRIALS[title], strict=True):
            if finished(run.folder):
                figures = [f"{run.figures()[which]['map']:.4f}" for which in ("ensemble", "last")]
                print(f"| {' '.join(f'--{key} {value}' for key, value in flags.items())} | {' | '.join(figures)} |")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
