"""Are windows chosen badly, or classes not recognized? Windows inside their events, by the probability of their class.

    python benchmarks/windows_by_probability.py RUN [RUN ...]

Of finished runs of GL-AT on scenes whose events are known. A class that sounds in a clip belongs to a column by the
probability that the global stream gives it, which is the stream that chooses. The last column is the share of them
whose most probable frame has an equal one, so that a window is centered on the middle of several.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from kerastag._command import prepare_tensorflow

LIMITS = (0.0, 0.1, 0.5, 1.0)


def row(folder: Path) -> str:
    """A finished run -> its line of the table."""
    import keras

    from kerastag.metrics import EventTable, localization
    from kerastag.models.loading import load_model
    from kerastag.recipes.evaluate import clips_of
    from kerastag.training.evaluation import predict

    data = clips_of(folder)
    truth = data.events()
    model = load_model(folder / "model.keras")
    outputs = [model.output[name] for name in ("global", "framewise", "start_seconds", "classes")]
    found = predict(keras.Model(model.input, outputs), data.evaluation, data.evaluation_rows, 16)
    probability, framewise, start_seconds, classes = *found[:3], found[3].astype(int)
    of_event = probability[truth.clip, truth.class_index]
    windows = (
        model.get_layer("select").sub_clip_seconds,
        data.evaluation.x_shape[1] / data.evaluation.packs[0].sample_rate,
    )
    cells = []
    for above, most in pairwise((-1.0, *LIMITS[1:])):
        rows = (of_event > above) & (of_event <= most)
        columns = (values[rows] for values in (truth.clip, truth.class_index, truth.onset, truth.offset))
        some = EventTable(*columns, truth.num_clips, truth.num_classes)
        figures = localization(some, start_seconds, classes, *windows).all
        cells.append(f"{figures.center:.3f} ({figures.chosen} of {figures.positives})" if figures.chosen else "–")
    frames = framewise.swapaxes(1, 2).reshape(-1, framewise.shape[1])[np.unique(truth.pair)]
    several = (frames == frames.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return f"| {folder} | {' | '.join(cells)} | {several.mean():.3f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished run of both streams on scenes")
    arguments = parser.parse_args()
    prepare_tensorflow()
    titles = [*(f"{above} to {most}" for above, most in pairwise(LIMITS)), "several frames"]
    print(f"| center inside, of windows of classes at | {' | '.join(titles)} |\n{'| --- ' * (1 + len(titles))}|")
    for folder in arguments.runs:
        print(row(folder), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
