"""Localization of the sub-clips that GL-AT selects, by the probability of their class.

    python benchmarks/windows_by_probability.py RUN [RUN ...]

Shows whether sub-clips are selected at wrong positions or classes are not recognized, for finished runs of GL-AT on
soundscapes whose events are known. A pair of a clip and a class with an event in it belongs to a column by its
probability in the global stream, which selects the sub-clips. The last column is the share of pairs for which several
frames have the highest probability, so that the sub-clip is centered on the middle of them.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from _figures import add_record_flag, print_table

from kerastag._command import prepare_tensorflow

LIMITS = (0.0, 0.1, 0.5, 1.0)


def compute_row(folder: Path) -> list[str]:
    """Compute the table row of a finished run."""
    import keras

    from kerastag.metrics import EventTable, compute_localization
    from kerastag.models.loading import load_model
    from kerastag.recipes._evaluation import load_run
    from kerastag.training.evaluation import predict_evaluation

    run = load_run(folder)
    events = run.data.events()
    model = load_model(run.folder.model_path)
    outputs = [model.output[name] for name in ("global", "framewise", "start_seconds", "classes")]
    selection_model = keras.Model(model.input, outputs)
    clipwise, framewise, start_seconds, classes = predict_evaluation(selection_model, run.config, run.data)
    probability = clipwise[events.clip, events.class_index]
    cells = [str(folder)]
    for lower, upper in pairwise((-1.0, *LIMITS[1:])):
        rows = (probability > lower) & (probability <= upper)
        columns = (values[rows] for values in (events.clip, events.class_index, events.onset, events.offset))
        selected_events = EventTable(*columns, events.num_clips, events.num_classes)
        scores = compute_localization(
            selected_events,
            start_seconds,
            classes.astype(int),
            model.get_layer("select").sub_clip_seconds,
            run.data.clip_seconds,
        ).all
        counts = f"({scores.num_selected} of {scores.num_pairs})"
        cells.append(f"{scores.center:.3f} {counts}" if scores.num_selected else "–")
    frames = framewise.swapaxes(1, 2).reshape(-1, framewise.shape[1])[np.unique(events.pair_index)]
    has_several_peaks = (frames == frames.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return [*cells, f"{has_several_peaks.mean():.3f}"]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="Folder of a finished run of both streams.")
    add_record_flag(parser)
    args = parser.parse_args()
    prepare_tensorflow()
    columns = [f"{lower} to {upper}" for lower, upper in pairwise(LIMITS)]
    header = ["centers inside, of sub-clips of classes at", *columns, "several frames"]
    print_table("windows_by_probability", header, [compute_row(folder) for folder in args.runs], args.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
