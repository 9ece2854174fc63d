"""Make the model in the box, `kerastag/bundled/esc10.tflite`, and its card beside it: from recordings to both files.

    python export/bundled_model.py --audio_dir ESC10 --work FOLDER [--smoke]

ESC-10 is a folder a class of Ogg files whose names begin with their fold, as its authors publish it. Scenes are mixed
from folds 1 to 4, nine tenths of the recordings to train on and one to choose thresholds on, and from fold 5 to measure
on; `recipes/mn_esc10.toml` trains MN alone, `recipes/gl_at_esc10.toml` both streams from there; target `tflite_runtime`
exports, in 8 bits for both interpreters. What is finished in FOLDER is left as it is, and what was interrupted goes on.
`--smoke` does all of it in small and leaves the package alone.
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import Card, write_card
from kerastag.labels import LabelSet

SPLITS = {"bal_train": ("bal_train=1,2,3,4:90%", 6000), "valid": ("valid=1,2,3,4:10%", 300), "eval": ("eval=5", 500)}
LARGEST = 1_500_000
ORIGIN = (
    "kerastag's own training, from scratch, on scenes mixed from ESC-10 (K. J. Piczak, 2015; recordings from "
    "freesound.org, CC BY 3.0, credited in its README); Apache-2.0"
)


def kerastag(*words: object, module: str = "kerastag") -> None:
    """Run a command of the package; its failure ends this program."""
    command = [sys.executable, "-m", module, *map(str, words)]
    print(" ".join(command[1:]), file=sys.stderr, flush=True)
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"bundled_model.py: error: failed: {' '.join(command[1:])}")


def make(audio_dir: Path, work: Path, smoke: bool) -> tuple[Path, dict]:
    """Recordings -> the exported file with its thresholds, and what is known of it."""
    scenes, alone, run = work / "scenes", work / "alone", work / "run"
    if not all((scenes / f"{split}.tsv").is_file() for split in SPLITS):
        counts = [f"{split}={count // 50 if smoke else count}" for split, (_, count) in SPLITS.items()]
        splits = [word for text, _ in SPLITS.values() for word in ("--split", text)]
        kerastag("scenes", "--audio_dir", audio_dir, "--output", scenes, *splits, "--count", *counts)
    begun = ["--initial_weights", alone / "model.keras"]
    for recipe, folder, further in (("mn", alone, []), ("gl_at", run, begun)):
        if not (folder / "metrics.json").is_file():
            words = ["--config", f"{recipe}_esc10", "--data_dir", scenes, "--run_dir", folder, *further]
            kerastag(*words, *(["--smoke"] if smoke else []), module=f"kerastag.recipes.{recipe}")
    model, when = work / f"{BUNDLED_MODEL}.tflite", work / "when.json"
    kerastag("export", run / "model.keras", "--target", "tflite_runtime", "--output", model, "--evaluation", scenes)
    # Of the file that is shipped; chosen on `valid`, measured on `eval`.
    tune = ["--tune", scenes / "valid.h5", "--by", "segment"]
    kerastag("when", model, "--pack", scenes / "eval.h5", *tune, "--json", when)
    found = json.loads(when.read_text())
    thresholds = tuple(found["rules"]["onset_thresholds"])
    card = Card.read(model)
    assert card.labels is not None
    # The folders of ESC-10 are called 001 - Dog bark.
    labels = LabelSet.from_names([name.partition(" - ")[2] for name in card.labels.names])
    told = {"thresholds": thresholds, "thresholds_origin": "F1 of seconds on held-out scenes", "origin": ORIGIN}
    write_card(model, dataclasses.replace(card, labels=labels, **told))
    return model, {
        "when": found,
        "export": json.loads(model.with_suffix(".parity.json").read_text()),
        "run": json.loads((run / "metrics.json").read_text()),
        "settings": [json.loads((folder / "settings.json").read_text()) for folder in (alone, run)],
    }


def text(model: Path, known: dict) -> str:
    """What is known of the file -> its card, in Markdown."""
    card, when, run = Card.read(model), known["when"], known["run"]
    export, (settings_alone, settings) = known["export"], known["settings"]
    assert card.labels is not None
    precision, f1 = run["ensemble"]["average_precision"], when["segment_f1"]["by_class"]
    columns = zip(card.labels.names, precision, f1, card.thresholds or (), strict=True)
    rows = [f"| {name} | {ap:.3f} | {score:.3f} | {threshold:.3f} |" for name, ap, score, threshold in columns]
    windows = run["localization"]["all"]
    share, chance = windows["center"], windows["center_chance"]
    inside = f"{share:.1%} ({chance:.1%})"
    clips = {split: count for split, (_, count) in SPLITS.items()}
    steps_alone, steps = settings_alone["steps"], settings["steps"]
    batch, seed = settings["batch_size"], settings["seed"]
    segment, event = when["segment_f1"]["macro"], when["event_f1"]["macro"]
    return f"""# `{BUNDLED_MODEL}`: the bundled model

A small audio tagger of ten classes that `kerastag tag` and `kerastag stream` use when no model is named:
{", ".join(card.labels.names)}.

| property | value |
| --- | --- |
| architecture | GL-AT on MN at {settings["width"]:g} of its published width |
| input | waveform of {card.window_seconds:g} s at {card.sample_rate:,} Hz; the front end is part of the model |
| weights | 8-bit integers, {export["size_bytes"] / 1e6:.2f} MB |
| license | Apache-2.0, like the package |

The model and this page are written by `python export/bundled_model.py --audio_dir ESC10`, here on
{machine()}.

## Training data

Ten-second soundscapes that `kerastag make-soundscapes` mixes from the recordings of ESC-10: one to four events, 0 to
20 dB above background noise. The weak labels of {clips["bal_train"]:,} soundscapes of folds 1 to 4 train MN from
scratch for {steps_alone:,} steps of {batch} clips, then both streams for {steps:,} steps (seed {seed}). Thresholds were
selected on {clips["valid"]} soundscapes of held-out recordings of these folds.

ESC-10 was collected from freesound.org by K. J. Piczak (*ESC: Dataset for Environmental Sound Classification*, 2015)
and is licensed under CC BY 3.0; its README credits every recording.

## Metrics

On {export["clips"]} soundscapes of fold 5, which has no recording in common with the training data:

| metric | value |
| --- | --- |
| mAP of the file | {export["map"]["file"]:.4f} |
| mAP before quantization | {export["map"]["keras"]:.4f} |
| macro F1 of 1 s segments | {segment:.3f} |
| macro F1 of events, 200 ms collar | {event:.3f} |
| PSDS, scenario 1 | {when["psds_1"]:.3f} |
| PSDS, scenario 2 | {when["psds_2"]:.3f} |
| windows of present classes centered in an event (by chance) | {inside} |

| class | AP (Keras) | segment F1 | threshold |
| --- | --- | --- | --- |
{chr(10).join(rows)}

## Limitations

The training data are 288 recordings of five seconds in artificial mixtures. Any other sound is assigned to one of the
ten classes or to none. The model serves to try kerastag on any device without a download; do not rely on it for
decisions. For 527 classes use `mn04_as`; for your own sounds train a tagger with `kerastag custom`.
"""


def machine() -> str:
    import keras
    import tensorflow as tf

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of an {name}, keras {keras.__version__}, tensorflow {tf.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio_dir", type=Path, required=True, help="ESC-10, a folder a class")
    parser.add_argument("--work", type=Path, help="folder of scenes and run (default: a temporary one)")
    parser.add_argument("--smoke", action="store_true", help="all of it in small; the package stays as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, known = make(arguments.audio_dir, arguments.work or Path(folder), arguments.smoke)
        written = text(model, known)
        if arguments.smoke:
            print(written)
            return
        if model.stat().st_size > LARGEST:
            sys.exit(f"bundled_model.py: error: {model} must be at most {LARGEST:,} bytes, is {model.stat().st_size:,}")
        place = resolve_model_path(BUNDLED_MODEL)
        shutil.copyfile(model, place.with_suffix(".part"))
        place.with_suffix(".part").replace(place)
        place.with_name("README.md").write_text(written)
        print(place)


if __name__ == "__main__":
    main()
