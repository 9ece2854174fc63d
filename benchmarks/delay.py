"""Accuracy against delay: mAP on AudioSet's evaluation clips after their first seconds.

    python benchmarks/delay.py --data-dir PACKS --runs RUNS [--seeds S ...] [--only NAME ...] [--jobs N]

Feature-level attention and the average of the embedded space are trained on the balanced clips, once on whole clips
and once on random parts of them of 1 to 10 segments, and predict the first 1, 2, 3, 5 and 10 segments (0.96 s each) of
every evaluation clip, with the mean of their checkpoints. Finished runs are left unchanged and interrupted ones are
resumed, so the same command can be repeated; those on whole clips are the runs of `benchmarks/paper1.py`, whose folder
of runs can be given. With `--record`, `docs/make_pictures.py delay` draws the table.
"""

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _figures import add_record_flag, print_table
from _runs import Run, is_finished, run_all

from kerastag._command import prepare_tensorflow
from kerastag.recipes._evaluation import load_run, predict_clips
from kerastag.training.evaluation import evaluate_predictions

SECONDS = (1, 2, 3, 5, 10)
"""Number of segments that are predicted from, which is nearly the number of seconds."""
SYSTEMS: dict[str, tuple[str, dict[str, object]]] = {
    "es_average": ("es_average", {}),
    "es_average_parts": ("es_average", {"min_segments": 1}),
    "feature_attention": ("feature_attention", {}),
    "feature_attention_parts": ("feature_attention", {"min_segments": 1}),
}
"""Recipe and flags of each system."""
TITLES = {"es_average": "average of the embedded space", "feature_attention": "feature-level attention"}


class FirstSegments:
    """The first segments of the clips of a pack."""

    def __init__(self, pack: Any, num_segments: int) -> None:
        self.pack, self.num_segments = pack, num_segments

    @property
    def targets(self) -> np.ndarray:
        """Labels of the whole clips, bool `(clips, classes)`."""
        return self.pack.targets

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the embeddings, their numbers of valid segments, and the labels of clips."""
        x, lengths, targets = self.pack.rows(indices)
        return x[:, : self.num_segments], np.minimum(lengths, self.num_segments), targets


def measure(folder: Path) -> dict[int, float]:
    """Return the mAP of a finished run by the number of segments that it has processed."""
    run, result = load_run(folder), {}
    for seconds in SECONDS:
        data = dataclasses.replace(run.data, evaluation=FirstSegments(run.data.evaluation, seconds))
        predictions = predict_clips(dataclasses.replace(run, data=data))
        result[seconds] = evaluate_predictions(data, predictions).map
    return result


def describe_training(flags: Mapping[str, object]) -> str:
    """Describe which clips a system is trained on."""
    return "parts of 1 to 10 segments" if flags else "whole clips"


def main() -> int:
    """Train the four systems, and measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="Folder of packs.")
    parser.add_argument("--runs", type=Path, required=True, help="Folder of run folders.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="Seeds (default: 0).")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, metavar="NAME", help=f"Of {', '.join(SYSTEMS)}.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of runs at a time.")
    add_record_flag(parser)
    arguments = parser.parse_args()
    prepare_tensorflow()

    runs: dict[str, list[Run]] = {}
    for name in arguments.only or SYSTEMS:
        recipe, flags = SYSTEMS[name]
        flags = {"config": "balanced", "data_dir": arguments.data_dir, **flags}
        runs[name] = [Run(recipe, arguments.runs / name / f"seed_{s}", {**flags, "seed": s}) for s in arguments.seeds]
    failed = run_all([run for seeds in runs.values() for run in seeds], arguments.jobs)
    rows = []
    for name, seeds in runs.items():
        if not (folders := [run.folder for run in seeds if is_finished(run.folder)]):
            continue
        measured = [measure(folder) for folder in folders]
        maps = [statistics.mean(values[seconds] for values in measured) for seconds in SECONDS]
        recipe, flags = SYSTEMS[name]
        share = maps[SECONDS.index(2)] / maps[-1]
        cells = [f"{value:.4f}" for value in maps]
        rows.append([TITLES[recipe], describe_training(flags), len(folders), *cells, f"{100 * share:.1f} %"])
    header = ("system", "trained on", "seeds", *(f"{seconds} s" for seconds in SECONDS), "2 s of 10 s")
    print_table("delay", header, rows, arguments.record)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
