"""Every run behind RESULTS.md's tables of paper 1, one after the other or several at a time.

    python benchmarks/paper1.py --data_dir PACKS --runs RUNS [--only NAME ...] [--seeds S ...] [--jobs N]

What is finished is left as it is and what was interrupted goes on where it stopped, so the same command may be given
again and again. Ends with the tables. Give `--list` to see the runs.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from _runs import Run, finished, print_state, run_all

# TOML in recipes/ -> seeds. The order is that of what one wants to know first.
RUNS: dict[str, tuple[int, ...]] = {
    "feature_attention_balanced": (0, 1, 2),
    "feature_attention_balanced_natural": (0, 1, 2),
    "es_average_balanced": (0, 1, 2),
    "es_average_balanced_natural": (0, 1, 2),
    "es_average_balanced_mixup": (0, 1, 2),
    "random_guess": (0,),
    "google_baseline_balanced": (0,),
    "segment_balanced": (0,),
    "es_max_balanced": (0,),
    "es_min_balanced": (0,),
    "es_max_min_balanced": (0,),
    "decision_attention_balanced": (0,),
    "multi_attention_balanced": (0,),
    "feature_max_balanced": (0,),
    "feature_average_balanced": (0,),
    "instance_max_balanced": (0,),
    "instance_average_balanced": (0,),
    "self_attention_balanced": (0,),
    "jdc_balanced": (0,),
    "bag_neighbors_balanced": (0,),
    "bag_neighbors_svm_balanced": (0,),
    **{f"feature_attention_{phi}_balanced": (0,) for phi in ("relu", "exp", "softmax", "nin")},
    **{f"feature_attention_units_{units}_balanced": (0,) for units in (256, 512, 2048)},
    **{f"feature_attention_depth_{depth}_balanced": (0,) for depth in (0, 1, 2, 4, 6, 8, 10)},
    "feature_attention_units_4096_balanced": (0,),
    "balanced_best": (0, 1, 2),
}


def recipe_of(config: str) -> str:
    """The recipe whose name the TOML's begins with, the longest one."""
    if config == "balanced_best":
        return "feature_attention"
    names = [path.stem for path in (Path(__file__).parent.parent / "kerastag" / "recipes").glob("[a-z]*.py")]
    return max((name for name in names if config.startswith(name)), key=len)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="folder of packs")
    parser.add_argument("--runs", type=Path, required=True, help="folder of run folders")
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="NAME", help="these runs alone")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds alone")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--list", action="store_true", help="print the runs and what is finished")
    arguments = parser.parse_args()
    runs = [
        Run(
            recipe_of(config),
            arguments.runs / config / f"seed_{seed}",
            {"config": config, "seed": seed, "data_dir": arguments.data_dir},
        )
        for config in arguments.only or RUNS
        for seed in arguments.seeds or RUNS[config]
    ]
    if arguments.list:
        print_state(runs)
        return 0
    failed = run_all(runs, arguments.jobs)
    if done := [str(run.folder) for run in runs if finished(run.folder)]:
        tables = [sys.executable, "-m", "kerastag.recipes.tables", *done, "--output", str(arguments.runs / "tables")]
        subprocess.run(tables, check=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
