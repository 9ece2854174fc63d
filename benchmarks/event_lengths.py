"""Which events a run knows: average precision of short and of long ones, on scenes whose events are known.

    python benchmarks/event_lengths.py RUN [RUN ...]

A class that sounds in a clip belongs to a column by its longest event there. The average precision of a column sets
these clips against all clips without the class; the clips of other columns are left out. Columns are means over classes
with at least three such clips.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from kerastag._command import prepare_tensorflow

LENGTHS = ((0.0, 2.0, "up to 2 s"), (2.0, 4.0, "to 4 s"), (4.0, np.inf, "longer"))
ENOUGH = 3


def row(folder: Path) -> str:
    """A finished run -> its line of the table."""
    from kerastag.metrics import compute_metrics
    from kerastag.recipes.evaluate import predictions_of

    data, scores = predictions_of(folder)
    events, targets = data.events(), data.targets.astype(bool)
    longest = np.zeros(targets.size)
    np.maximum.at(longest, events.pair, events.offset - events.onset)
    longest = longest.reshape(targets.shape)
    cells = [f"{compute_metrics(targets, scores).map:.4f}"]
    for above, most, _ in LENGTHS:
        of_length = targets & (longest > above) & (longest <= most)
        found = []
        for k in np.flatnonzero(of_length.sum(axis=0) >= ENOUGH):
            rows = of_length[:, k] | ~targets[:, k]
            found.append(compute_metrics(of_length[rows][:, [k]], scores[rows][:, [k]]).map)
        cells.append(f"{np.mean(found):.4f} ({of_length.sum()})" if found else "–")
    return f"| {folder} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished run on scenes")
    arguments = parser.parse_args()
    prepare_tensorflow()
    titles = " | ".join(f"{title} (clips and classes)" for *_, title in LENGTHS)
    print(f"| run | mAP | {titles} |\n{'| --- ' * (2 + len(LENGTHS))}|")
    for folder in arguments.runs:
        print(row(folder), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
