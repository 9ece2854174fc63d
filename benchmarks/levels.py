"""Accuracy of custom taggers on quiet recordings, with and without quiet copies of the clips in training.

    python benchmarks/levels.py RECORDINGS [--model mn04_as] [--seeds 0 1 2] [--fine-tune FOLDS]

RECORDINGS has one folder per class, and folds that the file names tell, as ESC-10 has. Every fold is predicted by
taggers of the others at the levels of `LEVELS`: the samples of a clip are multiplied by the level and rounded to 16
bits, as a recorder in a quiet room does. Printed is the mAP over all folds, mean and standard deviation over the seeds.

With `--fine-tune N`, the backbone is trained too, with `gain_db` of 0 and of its default, and N folds are predicted.
"""

import argparse
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from _figures import add_record_flag, print_table

from kerastag._command import prepare_tensorflow
from kerastag.custom import CustomConfig

LEVELS = (1.0, 0.05, 0.005)
"""Factors of the samples of the clips that are predicted."""
COPIES_DB = (0.0, 30.0, 50.0)
"""Largest attenuations of the quiet copy of each training clip, dB; 0 for no copy."""
_CLIPS_PER_BATCH = 8


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="Folder with one folder per class.")
    parser.add_argument("--model", default="mn04_as", help="Backbone.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--fine-tune", type=int, default=0, metavar="N", help="Number of folds to fine-tune for.")
    add_record_flag(parser)
    args = parser.parse_args()
    prepare_tensorflow()
    from kerastag.custom.embeddings import load_backbone
    from kerastag.tagger.presets import fetch_model

    config = CustomConfig(audio_dir=str(args.recordings), model=args.model, background="none")
    backbone = load_backbone(fetch_model(config.model))
    clips = _load_clips(config, backbone.card.sample_rate)
    rows = _fine_tune(config, backbone, clips, args) if args.fine_tune else _train_heads(config, backbone, clips, args)
    header = ("training", *(f"level {level:g}" for level in LEVELS))
    print_table("levels", header, rows, args.record)
    return 0


def _load_clips(config: CustomConfig, sample_rate: int):
    """Load the waveforms of all clips, with which other levels are easy."""
    from kerastag.custom.clips import load_clips

    clips = load_clips(config, sample_rate)
    return replace(clips, audio=tuple(clip.load_waveform(sample_rate) for clip in clips.audio))


def _change_level(waveform: np.ndarray, level: float) -> np.ndarray:
    return (np.rint(32_767 * level * waveform) / np.float32(32_768)).astype(np.float32)


def _embed(backbone, clips, levels: np.ndarray):
    """Compute the embeddings of the output frames of each clip at its level."""
    from kerastag.custom.head import Bags

    embedder, bags = backbone.embedders["frames"], []
    waveforms = [_change_level(clip, level) for clip, level in zip(clips.audio, levels, strict=True)]
    for _, group in itertools.groupby(waveforms, key=len):
        group = list(group)
        for start in range(0, len(group), _CLIPS_PER_BATCH):
            bags += list(np.asarray(embedder.predict_on_batch(np.stack(group[start : start + _CLIPS_PER_BATCH]))))
    print(f"embedded {len(bags)} clips", file=sys.stderr, flush=True)
    return Bags.pad(bags, clips.targets)


def _train_heads(config, backbone, clips, args) -> list[tuple[str, ...]]:
    from kerastag.custom.head import AttentionHead, Bags

    count = len(clips)
    tests = [_embed(backbone, clips, np.full(count, level)) for level in LEVELS]
    head, table = AttentionHead(config, len(clips.class_names), tests[0].x.shape[2]), []
    for decibels in COPIES_DB:
        bags = tests[0]
        if decibels:
            gains = 10 ** (-decibels / 20 * np.random.default_rng(0).random(count))
            copies = _embed(backbone, clips, gains)
            bags = Bags.pad([*bags.x, *copies.x], np.concatenate([clips.targets, clips.targets]))
        scores = []
        for seed in args.seeds:
            predictions = np.zeros((len(LEVELS), *clips.targets.shape), np.float32)
            for fold in np.unique(clips.folds):
                rows, test_rows = np.flatnonzero(clips.folds != fold), np.flatnonzero(clips.folds == fold)
                head.train(bags, np.concatenate([rows, rows + count]) if decibels else rows, seed)
                for number, test in enumerate(tests):
                    predictions[number, test_rows] = head.predict(test, test_rows)
            scores.append(_compute_maps(clips.targets, predictions))
        name = f"a copy of each clip up to {decibels:g} dB quieter" if decibels else "the clips as they are"
        table.append((f"head, {name}", *_format(scores)))
        print(*table[-1], file=sys.stderr, flush=True)
    return table


def _fine_tune(config, backbone, clips, args) -> list[tuple[str, ...]]:
    from kerastag.custom.embeddings import Embeddings
    from kerastag.custom.tagger import TaggerTrainer, predict_windows

    bags = _embed(backbone, clips, np.ones(len(clips)))
    everything = np.ones(len(clips), bool)
    embeddings = Embeddings(
        {"frames": list(bags.x)},
        bags.x.mean(axis=1),
        everything.astype(int),
        everything,
        (),
    )
    table, embedder = [], backbone.embedders["frames"]
    weights, folds = embedder.get_weights(), np.unique(clips.folds)[: args.fine_tune]
    test_rows = np.flatnonzero(np.isin(clips.folds, folds))
    for gain_db in (0.0, config.gain_db):
        trainer = TaggerTrainer(replace(config, fine_tune=True, gain_db=gain_db), backbone, clips, embeddings)
        scores = []
        for seed in args.seeds:
            predictions = np.zeros((len(LEVELS), *clips.targets.shape), np.float32)
            for fold in folds:
                tagger, _ = trainer.train("frames", np.flatnonzero(clips.folds != fold), seed)
                for (number, level), row in itertools.product(enumerate(LEVELS), np.flatnonzero(clips.folds == fold)):
                    waveform = _change_level(clips.audio[row], level)
                    predictions[number, row] = predict_windows(tagger, [waveform])
                embedder.set_weights(weights)
            scores.append(_compute_maps(clips.targets[test_rows], predictions[:, test_rows]))
            print(gain_db, seed, scores[-1], file=sys.stderr, flush=True)
        name = f"clips up to {gain_db:g} dB quieter" if gain_db else "clips as they are"
        table.append((f"fine-tuned, {name}", *_format(scores)))
    return table


def _compute_maps(targets: np.ndarray, predictions: np.ndarray) -> list[float]:
    from kerastag.metrics.classification import compute_metrics

    return [compute_metrics(targets, each).map for each in predictions]


def _format(scores: list[list[float]]) -> list[str]:
    return [
        f"{mean:.4f} ± {std:.4f}" for mean, std in zip(np.mean(scores, axis=0), np.std(scores, axis=0), strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
