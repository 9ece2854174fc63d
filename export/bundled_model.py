"""Train the bundled model on ESC-10 and write `kerastag/bundled/esc10.tflite` with the `README.md` that describes it.

    python export/bundled_model.py --audio-dir ESC10 --work FOLDER [--smoke]

ESC-10 has one folder per class, with Ogg files whose names begin with their fold, as its authors publish it.
Soundscapes are mixed from folds 1 to 4 for training (nine tenths of the recordings) and for the thresholds (one tenth),
and from fold 5 for evaluation. Those for training and for the thresholds have up to three synthetic sounds of no class
(`kerastag.data.OtherSounds`), and four tenths of them have nothing else, from which the model learns to claim none
of its classes. Thresholds maximize segment F1 and are then raised until a class is claimed in at most one of 1,080
clips of other sounds; false alarms are counted on 1,080 further ones. `gl_at` trains both streams with the overlay
`recipes/esc10.toml` from the published weights `mn04_as`, which know sounds of every kind: from scratch, the same data
gave 0.74 mAP, and real speech was a dog. The target `tflite_runtime` exports 8-bit weights for both interpreters.
Finished steps in FOLDER are skipped, and an interrupted training is resumed. `--smoke` runs all steps in small and
leaves the package unchanged.
"""

import argparse
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kerastag._command import normalize_options
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import Card, write_card
from kerastag.data.batches import scale
from kerastag.data.packs import open_pack
from kerastag.files import atomic_path, read_json, write_text
from kerastag.labels import LabelSet
from kerastag.markdown import format_table
from kerastag.tagger import Tagger
from kerastag.training.run_folder import RunFolder

OTHER_SOUNDS = ("--max-other-sounds", 3, "--background-db", -75, -30, "--empty-share")
# Splits of `kerastag make-soundscapes` by name: recordings, number of soundscapes, and options.
SPLITS: dict[str, tuple[str, int, tuple[Any, ...]]] = {
    "bal_train": ("1,2,3,4:90%", 6000, (*OTHER_SOUNDS, 0.4)),
    "valid": ("1,2,3,4:10%", 600, (*OTHER_SOUNDS, 0.4)),
    "eval": ("5", 500, ()),
    "other_valid": ("1,2,3,4:10%", 1080, (*OTHER_SOUNDS, 1.0)),
    "other_eval": ("5", 1080, (*OTHER_SOUNDS, 1.0)),
}
BALANCE = 0.6
MAX_CLAIMS = 1  # clips of `other_valid` in which a class may reach its threshold
MAX_BYTES = 2_500_000
OPTIONS = ("--balance", BALANCE, "--width", 0.4, "--learning-rate", 2e-3, "--steps", 400, "--evaluate-every", 400)
ORIGIN = (
    "mn04_as of EfficientAT (Copyright (c) 2022 Florian Schmid, MIT license), fine-tuned on soundscapes mixed from "
    "ESC-10 (K. J. Piczak, 2015; recordings from freesound.org, CC BY 3.0, credited in its README)"
)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio-dir", type=Path, required=True, help="Folder of ESC-10, with one folder per class.")
    parser.add_argument("--initial-weights", default="mn04_as", help="Published weights, or a .keras file of them.")
    parser.add_argument("--work", type=Path, help="Folder of soundscapes and runs (default: a temporary folder).")
    parser.add_argument("--smoke", action="store_true", help="Run all steps in small and leave the package unchanged.")
    args = parser.parse_args(normalize_options(sys.argv[1:]))
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        train(args.audio_dir, work, args.initial_weights, args.smoke)
        model, scores = export(work)
        description = describe_model(model, scores, work)
        if args.smoke:
            print(description)
            return
        if model.stat().st_size > MAX_BYTES:
            fail(f"{model}: must have at most {MAX_BYTES:,} bytes; received: {model.stat().st_size:,}")
        path = resolve_model_path(BUNDLED_MODEL)
        with atomic_path(path) as temporary_path:
            shutil.copyfile(model, temporary_path)
        write_text(path.with_name("README.md"), description)
        print(path)


def train(audio_dir: Path, work: Path, initial_weights: str, smoke: bool) -> None:
    """Mix the soundscapes and train both streams of GL-AT; skip what is finished."""
    soundscapes = work / "soundscapes"
    for split, (selection, count, options) in SPLITS.items():
        if not (soundscapes / f"{split}.tsv").is_file():
            recordings = ["--audio-dir", audio_dir, "--split", f"{split}={selection}"]
            number = ["--count", count // 50 if smoke else count]
            run_kerastag("make-soundscapes", *recordings, "--output", soundscapes, *number, *options)
    # Balanced draws never take a clip without a class: the rest of a batch is drawn from all clips.
    if not (work / "gl_at" / "metrics.json").is_file():
        run_dir = ["--data-dir", soundscapes, "--run-dir", work / "gl_at", *(["--smoke"] if smoke else [])]
        run_kerastag("train", "gl_at", "--config", "esc10", *run_dir, "--initial-weights", initial_weights, *OPTIONS)


def export(work: Path) -> tuple[Path, dict[str, Any]]:
    """Export the model, tune its thresholds on `valid` and `other_valid`, and score the exported file.

    Returns:
        Path of the model with its card, and its scores.
    """
    soundscapes = work / "soundscapes"
    model, scores_path = work / f"{BUNDLED_MODEL}.tflite", work / "scores.json"
    target = ["--target", "tflite_runtime", "--output", model, "--evaluation", soundscapes]
    run_kerastag("export", work / "gl_at" / "model.keras", *target)
    tuning = ["--tune", soundscapes / "valid.h5", "--by", "segment"]
    run_kerastag("score-events", model, "--pack", soundscapes / "eval.h5", *tuning, "--json", scores_path)
    tuned = read_json(scores_path)["rules"]["onset_thresholds"]
    highest = np.sort(predict_clips(model, soundscapes / "other_valid.h5"), axis=0)[-1 - MAX_CLAIMS]
    thresholds = np.maximum(tuned, np.minimum(highest + 1e-3, 1.0)).round(4)
    claims = predict_clips(model, soundscapes / "other_eval.h5") >= thresholds
    card = Card.read(model)
    assert card.labels is not None
    card = dataclasses.replace(card, thresholds=tuple(thresholds.tolist()))
    write_card(model, card)  # of the class names of the packs, for the scores
    run_kerastag("score-events", model, "--pack", soundscapes / "eval.h5", "--json", scores_path)
    hours = len(claims) * card.window_seconds / 3600
    scores = read_json(scores_path) | {
        "false_alarms_per_hour": float(claims.sum() / hours),
        "false_alarms_per_hour_by_class": (claims.sum(axis=0) / hours).tolist(),
        "hours": hours,
    }
    card = dataclasses.replace(
        card,
        labels=LabelSet.from_names([name.partition(" - ")[2] for name in card.labels.names]),  # 001 - Dog bark
        thresholds_origin="segment F1 on held-out soundscapes, raised on other sounds; "
        f"{scores['false_alarms_per_hour']:.2f} false alarms of all classes in an hour of synthetic other sounds",
        origin=ORIGIN,
    )
    write_card(model, card)
    return model, scores


def predict_clips(model: Path, pack: Path) -> np.ndarray:
    """Predict the probabilities of the clips of a pack, `(clips, classes)`."""
    tagger = Tagger.load(model)
    clips = []
    with open_pack(pack, in_memory=False) as rows:
        for row in range(len(rows)):
            x, lengths, _ = rows.rows([row])
            ((_, outputs),) = tagger.predict_windows(scale(x, lengths)[0], "clipwise", sample_rate=rows.sample_rate)
            clips.append(outputs["clipwise"])
    return np.stack(clips)


def describe_model(model: Path, scores: dict[str, Any], work: Path) -> str:
    """Format the description of the model in Markdown."""
    card, report = Card.read(model), read_json(model.with_suffix(".parity.json"))
    run = RunFolder.open(work / "gl_at")
    config, metrics = run.config, run.metrics()
    steps, batch_size, seed = (config[name] for name in ("steps", "batch_size", "seed"))
    assert card.labels is not None
    columns = (
        metrics["ensemble"]["average_precision"],
        scores["segment_f1"]["by_class"],
        card.thresholds or (),
        scores["false_alarms_per_hour_by_class"],
    )
    rows = [
        (name, *(f"{value:.3f}" for value in values)) for name, *values in zip(card.labels.names, *columns, strict=True)
    ]
    table = format_table(("class", "AP (Keras)", "segment F1", "threshold", "false alarms per hour"), rows)
    localization = metrics["localization"]["all"]
    centered = f"{localization['center']:.1%} ({localization['center_chance']:.1%})"
    num_train, num_valid, num_other = (SPLITS[split][1] for split in ("bal_train", "valid", "other_valid"))
    return f"""# `{BUNDLED_MODEL}`: the bundled model

A small audio tagger of ten classes that `kerastag tag` and `kerastag stream` use when no model is named:
{", ".join(card.labels.names)}.

| property | value |
| --- | --- |
| architecture | GL-AT on MN at width {config["width"]:g}, from EfficientAT's `mn04_as` |
| input | waveform of {card.window_seconds:g} s at {card.sample_rate:,} Hz; the front end is part of the model |
| weights | 8-bit integers, {report["size_bytes"] / 1e6:.2f} MB |
| license | MIT, below |

The model and this page are written by `python export/bundled_model.py --audio-dir ESC10`, here on
{describe_machine()}.

## Training data

Ten-second soundscapes that `kerastag make-soundscapes` mixes from the recordings of ESC-10: one to four events, 0 to
20 dB above background noise, and up to three synthetic sounds of no class: noises, hums, tones, rings, clicks,
speech-like and music-like sounds. Four tenths have no event. The weak labels of {num_train:,} soundscapes of folds 1
to 4 train both streams, which start from `mn04_as`, for {steps:,} steps of {batch_size} clips
(seed {seed}). Thresholds were selected on {num_valid} soundscapes of held-out recordings of these folds, for the best
F1 of segments, and raised until each class was claimed in at most {MAX_CLAIMS} of {num_other:,} clips of other sounds.

ESC-10 was collected from freesound.org by K. J. Piczak (*ESC: Dataset for Environmental Sound Classification*, 2015)
and is licensed under CC BY 3.0; its README credits every recording.

## Metrics

On {report["clips"]} soundscapes of fold 5, which has no recording in common with the training data. False alarms are
counted in {scores["hours"]:g} further hours of synthetic other sounds without an event.

| metric | value |
| --- | --- |
| mAP of the file | {report["map"]["file"]:.4f} |
| mAP before quantization | {report["map"]["keras"]:.4f} |
| macro F1 of 1 s segments | {scores["segment_f1"]["macro"]:.3f} |
| macro F1 of events, 200 ms collar | {scores["event_f1"]["macro"]:.3f} |
| PSDS, scenario 1 | {scores["psds_1"]:.3f} |
| PSDS, scenario 2 | {scores["psds_2"]:.3f} |
| false alarms of all classes per hour of other sounds | {scores["false_alarms_per_hour"]:.2f} |
| sub-clips of present classes centered in an event (by chance) | {centered} |

{table}

## Limitations

The training data are 288 recordings of five seconds in artificial mixtures, and its other sounds are synthetic: real
sounds of other kinds can reach a threshold. The model serves to try kerastag on any device without a download; do not
rely on it for decisions. For 527 classes use `mn04_as`; for your own sounds train a tagger with `kerastag custom`.

## License

The weights that this model starts from are those of EfficientAT: Copyright (c) 2022 Florian Schmid. {MIT_LICENSE}"""


MIT_LICENSE = """Permission is hereby granted, free
of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to
do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def describe_machine() -> str:
    """Describe the processor and the versions of the frameworks."""
    import keras
    import tensorflow as tf

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of an {name}, keras {keras.__version__}, tensorflow {tf.__version__}"


def run_kerastag(*arguments: object) -> None:
    """Run a command of kerastag, and end this program if it fails."""
    command = [sys.executable, "-m", "kerastag", *map(str, arguments)]
    print(" ".join(command[1:]), file=sys.stderr, flush=True)
    if subprocess.run(command, check=False).returncode:
        fail(f"the command failed: {' '.join(command[1:])}")


def fail(message: str) -> None:
    """End the program with an error."""
    sys.exit(f"bundled_model.py: error: {message}")


if __name__ == "__main__":
    main()
