"""How the probabilities of a clip and of its frames are best combined to those in which events are detected.

    python benchmarks/frame_limits.py MODEL [MODEL ...] --audio-dir ESC10 --output FOLDER

Makes soundscapes of the recordings of fold 5, which the models must not have been trained on: of one half to tune
thresholds, of the other to score. The table has the macro average precision over all frames of all clips, PSDS, and
macro F1 with tuned thresholds. Models of AudioSet's 527 classes take part with the classes that correspond to those of
ESC-10.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kerastag._command import prepare_tensorflow
from kerastag.events import EventRules, limit_framewise
from kerastag.markdown import format_table

SPLITS = ("tune", "eval")
AUDIOSET_NAMES = {
    "Dog bark": "Bark",
    "Sea waves": "Waves, surf",
    "Baby cry": "Baby cry, infant cry",
    "Clock tick": "Tick-tock",
    "Person sneeze": "Sneeze",
    "Rooster": "Crowing, cock-a-doodle-doo",
    "Fire crackling": "Crackle",
}
METHODS = {
    "frames alone": lambda framewise, clipwise: framewise,
    "clip alone": lambda framewise, clipwise: np.broadcast_to(clipwise[..., None, :], framewise.shape),
    "minimum": lambda framewise, clipwise: np.minimum(framewise, clipwise[..., None, :]),
    "product": lambda framewise, clipwise: framewise * clipwise[..., None, :],
    "harmonic mean (`limit_framewise`)": limit_framewise,
}


def make_soundscapes(audio_dir: Path, output: Path, count: int) -> None:
    """Make the soundscapes of both halves of the recordings of fold 5, unless they exist."""
    if not all((output / f"{split}.tsv").is_file() for split in SPLITS):
        arguments = ["--audio-dir", str(audio_dir), "--output", str(output)]
        arguments += [part for split in SPLITS for part in ("--split", f"{split}=5:50%")]
        arguments += ["--count", *(f"{split}={count}" for split in SPLITS)]
        subprocess.run([sys.executable, "-m", "kerastag", "make-soundscapes", *arguments], check=True)


def predict(model: str, path: Path) -> tuple[Any, np.ndarray, np.ndarray, float]:
    """Return the ground truth of a pack, and the framewise and clipwise probabilities and the hop of a model."""
    from kerastag.data import open_pack, scale
    from kerastag.metrics import read_events
    from kerastag.tagger import Tagger

    tagger = Tagger.load(model)
    with open_pack(path) as pack:
        names = [name.split(" - ")[-1] for name in tagger.labels.names]  # The folders of ESC-10 have numbers.
        esc10_names = [name.split(" - ")[-1] for name in pack.labels.names]
        classes = [names.index(name if name in names else AUDIOSET_NAMES[name]) for name in esc10_names]
        ground_truth = read_events(path.with_suffix(".tsv"), list(pack.ids), pack.labels)
        timelines = []
        for row in range(len(pack)):
            x, lengths, _ = pack.rows([row])
            timelines.append(tagger.predict_timeline(scale(x, lengths)[0], sample_rate=pack.sample_rate))
    framewise = np.stack([timeline.framewise[:, classes] for timeline in timelines])
    clipwise = np.stack([timeline.clipwise[classes] for timeline in timelines])
    return ground_truth, framewise, clipwise, tagger.seconds_per_frame


def compare(model: str, folder: Path) -> list[list[str]]:
    """Return the rows of the table of a model."""
    from kerastag import metrics

    tuning_truth, *tuning, _ = predict(model, folder / "tune.h5")
    ground_truth, framewise, clipwise, hop = predict(model, folder / "eval.h5")
    num_frames, num_classes = framewise.shape[1:]
    centers = (np.arange(num_frames) + 0.5) * hop
    is_active = np.zeros(framewise.shape, bool)
    columns = (ground_truth.clip, ground_truth.class_index, ground_truth.onset, ground_truth.offset)
    for clip, k, onset, offset in zip(*columns, strict=True):
        is_active[clip, (centers >= onset) & (centers < offset), k] = True
    rows = []
    for name, method in METHODS.items():
        probabilities = method(framewise, clipwise)
        scores = metrics.compute_metrics(is_active.reshape(-1, num_classes), probabilities.reshape(-1, num_classes))
        psds = metrics.compute_psds(ground_truth, probabilities, hop, num_frames * hop, scenario=metrics.PSDS_1)
        cells = [model, name, f"{scores.map:.4f}", f"{psds:.3f}"]
        for by, compute_f1 in (("segment", metrics.compute_segment_f1), ("event", metrics.compute_event_f1)):
            rules = metrics.tune_thresholds(tuning_truth, method(*tuning), hop, EventRules(), by=by)
            events = metrics.EventTable.from_framewise(probabilities, hop, rules)
            cells.append(f"{compute_f1(ground_truth, events).macro:.3f}")
        rows.append(cells)
    return rows


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Taggers that take waveforms.")
    parser.add_argument("--audio-dir", type=Path, required=True, help="Recordings with ESC's names, in class folders.")
    parser.add_argument("--output", type=Path, required=True, help="Folder for the soundscapes.")
    parser.add_argument("--count", type=int, default=120, help="Number of soundscapes of each half.")
    arguments = parser.parse_args()
    prepare_tensorflow()
    make_soundscapes(arguments.audio_dir, arguments.output, arguments.count)
    rows = [row for model in arguments.models for row in compare(model, arguments.output)]
    columns = ("model", "probabilities", "AP of frames", "PSDS 1", "F1 of 1 s segments", "F1 of events")
    print(format_table(columns, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
