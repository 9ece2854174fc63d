"""Train the bundled model on ESC-10 and write `kerastag/bundled/esc10.tflite` with the `README.md` that describes it.

    python export/bundled_model.py --audio-dir ESC10 --other-dir OTHER --other-eval-dir OTHER2 --work FOLDER [--smoke]

ESC-10 has one folder per class, with Ogg files whose names begin with their fold, as its authors publish it.
Soundscapes are mixed from folds 1 to 4 for training (nine tenths of the recordings) and for the thresholds (one tenth),
and from fold 5 for evaluation. Those for training and for the thresholds have up to three synthetic sounds of no class
(`kerastag.data.OtherSounds`), and four tenths of them have nothing else.

OTHER and OTHER2 are folders of recordings of no class, with no speaker and no piece of music in common. Every second
recording of OTHER is trained on, and the rest serves the thresholds. The bundled model was made with these packages of
Debian 12, unpacked: asterisk-core-sounds-en-wav, klettres-data, colobot-common-sounds, frozen-bubble-data and
lomiri-sounds; asterisk-core-sounds-fr-wav, asterisk-core-sounds-ru-wav and wesnoth-1.16-music for evaluation.

All layers up to the features are those of the published weights `mn04_as` and stay as they are, so that what AudioSet
taught of speech, music and other sounds is kept. Only the classifier is trained, from the rows of AudioSet's classes in
`AUDIOSET_CLASSES`, on features that are computed once. With all weights trained instead, speech was a chainsaw or a
sneeze; with GL-AT, whose local stream processes sub-clips without the sound around them, a slammed door was a dog.

Thresholds maximize segment F1 and are then raised until each class is claimed in at most one of 1,080 clips of
synthetic sounds and in one of the real ones; false alarms are counted on other clips of both kinds. The target
`tflite_runtime` exports 8-bit weights for both interpreters. Finished steps in FOLDER are skipped. `--smoke` runs all
steps in small and leaves the package unchanged.
"""

import argparse
import dataclasses
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kerastag._command import normalize_options
from kerastag._provenance import package_versions
from kerastag.audio import find_audio_files, read_blocks
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import Card, write_card
from kerastag.data.batches import scale
from kerastag.data.packs import open_pack
from kerastag.files import atomic_path, read_json, write_text
from kerastag.labels import LabelSet
from kerastag.markdown import format_table
from kerastag.tagger import Tagger

OTHER_SOUNDS = ("--max-other-sounds", 3, "--background-db", -75, -30, "--empty-share")
# Splits of `kerastag make-soundscapes` by name: recordings, number of soundscapes, and options.
SPLITS: dict[str, tuple[str, int, tuple[Any, ...]]] = {
    "bal_train": ("1,2,3,4:90%", 4000, (*OTHER_SOUNDS, 0.4)),
    "valid": ("1,2,3,4:10%", 600, (*OTHER_SOUNDS, 0.4)),
    "eval": ("5", 500, ()),
    "other_valid": ("1,2,3,4:10%", 1080, (*OTHER_SOUNDS, 1.0)),
    "other_eval": ("5", 1080, (*OTHER_SOUNDS, 1.0)),
}
# Class of AudioSet whose row of the classifier each class starts from.
AUDIOSET_CLASSES = {
    "Dog bark": "Dog",
    "Rain": "Rain",
    "Sea waves": "Waves, surf",
    "Baby cry": "Baby cry, infant cry",
    "Clock tick": "Tick-tock",
    "Person sneeze": "Sneeze",
    "Helicopter": "Helicopter",
    "Chainsaw": "Chainsaw",
    "Rooster": "Crowing, cock-a-doodle-doo",
    "Fire crackling": "Fire",
}
SAMPLE_RATE, CLIP_SECONDS = 32_000, 10
MAX_CLIPS_PER_RECORDING = 12  # of long ones, which are music
WIDTH = 0.4
SUB_CLIP_FRAMES = 9  # output frames of 0.32 s in a sub-clip of 3 s
SEED, STEPS, LEARNING_RATE = 0, 1500, 3e-4
# Clips of a batch: with each class once, of all soundscapes, and of the recordings of no class.
NUM_ALL, NUM_OTHER = 38, 16
MAX_CLAIMS = 1  # clips of other sounds in which a class may reach its threshold, of each kind
MAX_BYTES = 2_500_000
ORIGIN = (
    "mn04_as of EfficientAT (Copyright (c) 2022 Florian Schmid, MIT license), fine-tuned on soundscapes mixed from "
    "ESC-10 (K. J. Piczak, 2015; recordings from freesound.org, CC BY 3.0, credited in its README)"
)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio-dir", type=Path, required=True, help="Folder of ESC-10, with one folder per class.")
    parser.add_argument("--other-dir", type=Path, required=True, help="Recordings of no class, for training.")
    parser.add_argument("--other-eval-dir", type=Path, required=True, help="Recordings of no class, for evaluation.")
    parser.add_argument("--initial-weights", default="mn04_as", help="Published weights, or a .keras file of them.")
    parser.add_argument("--work", type=Path, help="Folder of all intermediate files (default: a temporary folder).")
    parser.add_argument("--smoke", action="store_true", help="Run all steps in small and leave the package unchanged.")
    args = parser.parse_args(normalize_options(sys.argv[1:]))
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        make_soundscapes(args.audio_dir, work, args.smoke)
        other = cut_recordings(args.other_dir)
        if not (work / "mn.keras").is_file():
            train(work, other[::2], args.initial_weights, args.smoke)
        model, scores = export(work, other[1::2], cut_recordings(args.other_eval_dir))
        description = describe_model(model, scores)
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


def make_soundscapes(audio_dir: Path, work: Path, smoke: bool) -> None:
    """Mix the soundscapes of all splits that are missing."""
    for split, (selection, count, options) in SPLITS.items():
        if not (work / f"{split}.tsv").is_file():
            recordings = ["--audio-dir", audio_dir, "--split", f"{split}={selection}"]
            number = ["--count", count // 50 if smoke else count]
            run_kerastag("make-soundscapes", *recordings, "--output", work, *number, *options)


def cut_recordings(folder: Path) -> np.ndarray:
    """Cut the recordings of a folder into clips of 16-bit samples, `(clips, samples)`; short ones are joined.

    Recordings of one speaker or one piece of music lie next to each other in the order of their paths.
    """
    length = CLIP_SECONDS * SAMPLE_RATE
    clips: list[np.ndarray] = []
    rest = np.zeros(0, np.float32)
    for name in find_audio_files(folder):
        try:
            blocks = itertools.islice(read_blocks(folder / name, SAMPLE_RATE, CLIP_SECONDS), MAX_CLIPS_PER_RECORDING)
            samples = np.concatenate([rest, *blocks])
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        num_clips = len(samples) // length
        clips += list(np.split(np.rint(32767 * samples[: num_clips * length]).astype(np.int16), num_clips or 1))
        rest = samples[num_clips * length :]
    return np.stack([clip for clip in clips if len(clip)])


def read_clips(pack: Path) -> Iterator[np.ndarray]:
    """Read the waveforms of a pack."""
    with open_pack(pack, in_memory=False) as rows:
        for row in range(len(rows)):
            x, lengths, _ = rows.rows([row])
            yield scale(x, lengths)[0]


def convert_to_waveforms(clips: np.ndarray) -> Iterator[np.ndarray]:
    """Convert 16-bit samples to waveforms."""
    return (clip.astype(np.float32) / 32767 for clip in clips)


def train(work: Path, other: np.ndarray, initial_weights: str, smoke: bool) -> None:
    """Train the classifier on features of the published weights, and save the model with it as `mn.keras`."""
    import keras

    from kerastag.models import MODELS, load_model
    from kerastag.models.weights import copy_weights
    from kerastag.tagger import fetch_model

    path = fetch_model(initial_weights)
    source, source_card = load_model(path), Card.read(path)
    with open_pack(work / "bal_train.h5") as pack:
        labels, targets = pack.labels, np.stack([pack.rows([row])[2][0] for row in range(len(pack))])
    assert source_card.labels is not None
    rows = [source_card.labels.names.index(AUDIOSET_CLASSES[remove_number(name)]) for name in labels.names]
    backbone = MODELS["mn"].build(num_classes=len(rows), width=WIDTH, input="waveform")
    copy_weights(backbone, source)
    kernel, bias = source.get_layer("classifier").get_weights()
    backbone.get_layer("classifier").set_weights([kernel[:, rows], bias[rows]])

    body = keras.Model(backbone.input, backbone.get_layer("features").output)
    features = compute_features(body, read_clips(work / "bal_train.h5"))
    other_features = compute_features(body, convert_to_waveforms(other))
    inputs = keras.Input(features.shape[1:])
    classifier = keras.Model(inputs, classify_clips(backbone, inputs))
    steps = STEPS // 50 if smoke else STEPS
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    classifier.compile(keras.optimizers.Adam(schedule), keras.losses.BinaryCrossentropy())
    rng = np.random.default_rng(SEED)
    present = [np.flatnonzero(column) for column in targets.T]
    for _ in range(steps):
        indices = np.concatenate([[rng.choice(clips) for clips in present], rng.choice(len(features), NUM_ALL)])
        x = np.concatenate([features[indices], other_features[rng.choice(len(other_features), NUM_OTHER)]])
        y = np.concatenate([targets[indices], np.zeros((NUM_OTHER, len(rows)))])
        classifier.train_on_batch(x.astype(np.float32), y.astype(np.float32))

    outputs = {**backbone.output, "clipwise": classify_clips(backbone, backbone.get_layer("features").output)}
    model = keras.Model(backbone.input, outputs, name=BUNDLED_MODEL)
    card = dataclasses.replace(source_card, labels=labels, thresholds=None, origin=ORIGIN, versions=package_versions())
    with atomic_path(work / "mn.keras") as temporary_path:
        model.save(temporary_path)
        write_card(temporary_path, card)


def compute_features(body: Any, waveforms: Iterable[np.ndarray]) -> np.ndarray:
    """Compute the features of clips, `(clips, output_frames, features)`, as 16-bit floats."""
    clips, features = iter(waveforms), []
    while batch := list(itertools.islice(clips, 16)):
        features.append(body.predict_on_batch(np.stack(batch)).astype(np.float16))
    return np.concatenate(features)


def classify_clips(backbone: Any, features: Any) -> Any:
    """Classify the mean of the features of a clip and of each sub-clip with the layers of a backbone, and pool both.

    The probability of a sub-clip is that of the best one; both are pooled as the streams of GL-AT are.
    """
    from keras import layers

    def classify(x: Any) -> Any:
        x = backbone.get_layer("classifier")(backbone.get_layer("hidden")(x))
        return layers.Activation("sigmoid", dtype="float32")(x)

    clip = classify(layers.GlobalAveragePooling1D()(features))
    sub_clips = classify(layers.AveragePooling1D(SUB_CLIP_FRAMES, strides=1)(features))
    both = [clip, layers.GlobalMaxPooling1D()(sub_clips)]
    return layers.Average(name="pooled")([layers.Maximum()(both), layers.Average()(both)])


def remove_number(name: str) -> str:
    """Return the name of a class without the number of its folder, as in `001 - Dog bark`."""
    return name.partition(" - ")[2]


def export(work: Path, real_valid: np.ndarray, real_eval: np.ndarray) -> tuple[Path, dict[str, Any]]:
    """Export the model, choose its thresholds, and score the exported file.

    Returns:
        Path of the model with its card, and its scores.
    """
    model, scores_path = work / f"{BUNDLED_MODEL}.tflite", work / "scores.json"
    run_kerastag("export", work / "mn.keras", "--target", "tflite_runtime", "--output", model, "--evaluation", work)
    tuning = ["--tune", work / "valid.h5", "--by", "segment"]
    run_kerastag("score-events", model, "--pack", work / "eval.h5", *tuning, "--json", scores_path)
    thresholds = np.array(read_json(scores_path)["rules"]["onset_thresholds"])
    for clips in (read_clips(work / "other_valid.h5"), convert_to_waveforms(real_valid)):
        highest = np.sort(predict_clips(model, clips), axis=0)[-1 - MAX_CLAIMS]
        thresholds = np.maximum(thresholds, np.minimum(highest + 1e-3, 1.0))
    thresholds = thresholds.round(4)
    card = dataclasses.replace(Card.read(model), thresholds=tuple(thresholds.tolist()))
    write_card(model, card)  # of the class names of the packs, for the scores
    run_kerastag("score-events", model, "--pack", work / "eval.h5", "--json", scores_path)
    scores = read_json(scores_path)
    for name, clips in (
        ("synthetic", read_clips(work / "other_eval.h5")),
        ("real", convert_to_waveforms(real_eval)),
    ):
        claims = predict_clips(model, clips) >= thresholds
        hours = len(claims) * CLIP_SECONDS / 3600
        scores[name] = {
            "hours": hours,
            "false_alarms_per_hour": float(claims.sum() / hours),
            "by_class": (claims.sum(axis=0) / hours).tolist(),
        }
    assert card.labels is not None
    synthetic, real = (scores[name] for name in ("synthetic", "real"))
    card = dataclasses.replace(
        card,
        labels=LabelSet.from_names([remove_number(name) for name in card.labels.names]),
        thresholds_origin="segment F1 on held-out soundscapes, raised on other sounds; false alarms per hour: "
        f"{synthetic['false_alarms_per_hour']:.2f} (synthetic), {real['false_alarms_per_hour']:.2f} (speech and music)",
        origin=ORIGIN,
    )
    write_card(model, card)
    return model, scores


def predict_clips(model: Path, waveforms: Iterable[np.ndarray]) -> np.ndarray:
    """Predict the probabilities of clips, `(clips, classes)`."""
    tagger = Tagger.load(model)
    return np.stack([tagger.predict(waveform, sample_rate=SAMPLE_RATE) for waveform in waveforms])


def describe_model(model: Path, scores: dict[str, Any]) -> str:
    """Format the description of the model in Markdown."""
    card, report, versions = Card.read(model), read_json(model.with_suffix(".parity.json")), package_versions()
    synthetic, real = scores["synthetic"], scores["real"]
    assert card.labels is not None
    columns = (scores["segment_f1"]["by_class"], card.thresholds or (), synthetic["by_class"], real["by_class"])
    rows = [
        (name, *(f"{value:.3f}" for value in values)) for name, *values in zip(card.labels.names, *columns, strict=True)
    ]
    table = format_table(("class", "segment F1", "threshold", "of synthetic sounds", "of speech and music"), rows)
    num_train, num_valid, num_other = (SPLITS[split][1] for split in ("bal_train", "valid", "other_valid"))
    return f"""# `{BUNDLED_MODEL}`: the bundled model

A small audio tagger of ten classes that `kerastag tag` and `kerastag stream` use when no model is named:
{", ".join(card.labels.names)}.

| property | value |
| --- | --- |
| architecture | MN at width {WIDTH:g}, from EfficientAT's `mn04_as`, pooled over the clip and its sub-clips of 3 s |
| input | waveform of {card.window_seconds:g} s at {card.sample_rate:,} Hz; the front end is part of the model |
| weights | 8-bit integers, {report["size_bytes"] / 1e6:.2f} MB |
| license | MIT, below |

The model and this page are written by `export/bundled_model.py`, which names its data, here on
{versions["machine"]}, keras {versions["keras"]}, tensorflow {versions["tensorflow"]}.

## Training data

Ten-second soundscapes that `kerastag make-soundscapes` mixes from the recordings of ESC-10: one to four events, 0 to
20 dB above background noise, and up to three synthetic sounds of no class: noises, hums, tones, rings, clicks,
speech-like and music-like sounds. Four tenths have no event. A quarter of each batch is speech and music from packages
of Debian. The weak labels of {num_train:,} soundscapes of folds 1 to 4 train the two layers of the classifier for
{STEPS:,} steps (seed {SEED}); all other weights are those of `mn04_as`. Thresholds were selected on {num_valid}
soundscapes of held-out recordings of these folds, for the best F1 of segments, and raised until each class was claimed
in at most {MAX_CLAIMS} of {num_other:,} clips of synthetic sounds and in {MAX_CLAIMS} of speech and music.

ESC-10 was collected from freesound.org by K. J. Piczak (*ESC: Dataset for Environmental Sound Classification*, 2015)
and is licensed under CC BY 3.0; its README credits every recording.

## Metrics

On {report["clips"]} soundscapes of fold 5, which has no recording in common with the training data. False alarms are
the ten-second clips in which a class reaches its threshold, in {synthetic["hours"]:.2g} hours of synthetic sounds and
{real["hours"]:.2g} hours of speech and music by others than those trained on, all without an event.

| metric | value |
| --- | --- |
| mAP of the file | {report["map"]["file"]:.4f} |
| mAP before quantization | {report["map"]["keras"]:.4f} |
| macro F1 of 1 s segments | {scores["segment_f1"]["macro"]:.3f} |
| macro F1 of events, 200 ms collar | {scores["event_f1"]["macro"]:.3f} |
| PSDS, scenario 1 | {scores["psds_1"]:.3f} |
| PSDS, scenario 2 | {scores["psds_2"]:.3f} |
| false alarms of all classes per hour of synthetic sounds | {synthetic["false_alarms_per_hour"]:.2f} |
| false alarms of all classes per hour of speech and music | {real["false_alarms_per_hour"]:.2f} |

{table}

The last two columns are false alarms per hour.

## Limitations

The training data are 288 recordings of five seconds in artificial mixtures, and the other sounds are synthetic, speech
or music: real sounds of other kinds can reach a threshold. The model serves to try kerastag on any device without a
download; do not rely on it for decisions. For 527 classes use `mn04_as`; for your own sounds train a tagger with
`kerastag custom`.

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
