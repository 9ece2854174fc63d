"""Average precision for short and for long events, on soundscapes whose events are known.

    python benchmarks/event_lengths.py RUN [RUN ...]

A clip with events of a class belongs to a column by the longest of them. The average precision of a column compares
these clips with all clips without the class; clips of other columns are skipped. Each column is a mean over the classes
with at least three such clips.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from _figures import add_record_flag, print_table

from kerastag._command import prepare_tensorflow

LENGTHS = ((0.0, 2.0, "up to 2 s"), (2.0, 4.0, "to 4 s"), (4.0, np.inf, "longer"))
MIN_CLIPS = 3


def compute_row(folder: Path) -> list[str]:
    """Compute the table row of a finished run."""
    from kerastag.metrics import compute_metrics
    from kerastag.recipes._evaluation import predict_run

    data, probabilities = predict_run(folder)
    events, targets = data.events(), data.targets.astype(bool)
    longest = np.zeros(targets.size)
    np.maximum.at(longest, events.pair_index, events.durations)
    longest = longest.reshape(targets.shape)
    cells = [str(folder), f"{compute_metrics(targets, probabilities).map:.4f}"]
    for min_seconds, max_seconds, _ in LENGTHS:
        is_in_column = targets & (longest > min_seconds) & (longest <= max_seconds)
        precisions = []
        for k in np.flatnonzero(is_in_column.sum(axis=0) >= MIN_CLIPS):
            rows = is_in_column[:, k] | ~targets[:, k]
            precisions.append(compute_metrics(is_in_column[rows][:, [k]], probabilities[rows][:, [k]]).map)
        cells.append(f"{np.mean(precisions):.4f} ({is_in_column.sum()})" if precisions else "–")
    return cells


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="Folder of a finished run on soundscapes.")
    add_record_flag(parser)
    args = parser.parse_args()
    prepare_tensorflow()
    header = ["run", "mAP", *(f"{title} (clips and classes)" for *_, title in LENGTHS)]
    print_table("event_lengths", header, [compute_row(folder) for folder in args.runs], args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
