"""Accuracy of heads of custom taggers, with all clips and with few, and how often they claim sounds of no class.

    python benchmarks/custom_heads.py compare RECORDINGS [--inner] [--kinds seconds frames] [--sizes 0 5 10 20]
    python benchmarks/custom_heads.py unknown RECORDINGS [--others FOLDER ...] [--background none]

RECORDINGS has one folder per class, and folds that the file names tell, as ESC-10 has. `compare` prints the mean
accuracy over the folds and seeds of each variant in `VARIANTS`, and of logistic regression on the embeddings of whole
clips. A size is the number of clips of each class to train on, 0 for all. With `--inner`, each fold is left out and the
next one predicted, which is how the defaults were chosen; the folds themselves are for the report.

`unknown` trains taggers of half of the classes. Its table has the share of clips of these classes that are recalled
when they are held out, from training, calibration and the choice of thresholds, and the share of clips of the other
half, and of other folders, for which at least one class reaches its own threshold. `--lost-shares` has the share of the
labels that may be lost for higher thresholds; 0 keeps those with the best F1.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from _figures import Table, add_record_flag, print_table

from kerastag._command import prepare_tensorflow
from kerastag.custom import CustomConfig
from kerastag.rng import Purpose, generator

VARIANTS = {
    "linear model": {},
    "linear model, regularized less": {"linear_regularization": 0.1},
    "linear model, regularized more": {"linear_regularization": 1.0},
    "linear model, ridge regression alone": {"linear_similarity": 0.0},
    "attention": {"linear_share": 0.0},
    "attention, noise 0.3": {"linear_share": 0.0, "noise": 0.3},
    "attention, mixup 0.3": {"linear_share": 0.0, "mixup": 0.3},
    "both": {"linear_share": 0.5},
    "both, more of the linear model": {"linear_share": 0.8},
}
"""What differs from the defaults of `CustomConfig`."""

SPLITS = (
    (0, 2, 4, 6, 8),
    (1, 3, 5, 7, 9),
    (0, 1, 4, 5, 9),
    (2, 3, 6, 7, 8),
    (0, 1, 2, 7, 9),
    (3, 4, 5, 6, 8),
)
"""Classes of the taggers that `unknown` trains, by number. The defaults were chosen on other halves of the classes."""
_SEGMENTS = "best"  # embeds both kinds of segments


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("compare", "unknown"))
    parser.add_argument("recordings", type=Path, help="Folder with one folder per class.")
    parser.add_argument("--model", default="mn04_as", help="Backbone.")
    parser.add_argument("--kinds", nargs="+", default=["frames", "seconds"], help="What a bag consists of.")
    parser.add_argument("--sizes", nargs="+", type=int, default=[0, 20, 10, 5], help="Clips of each class; 0: all.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="Names of variants.")
    parser.add_argument("--inner", action="store_true", help="Predict the next fold instead of the fold.")
    parser.add_argument("--others", nargs="*", default=[], type=Path, help="Folders of recordings of other sounds.")
    parser.add_argument("--lost-shares", nargs="+", type=float, default=[0.0, 0.01, 0.02, 0.03, 0.05])
    parser.add_argument("--background", default="bundled", help="Background of the taggers.")
    add_record_flag(parser)
    args = parser.parse_args()
    prepare_tensorflow()
    config = CustomConfig(
        audio_dir=str(args.recordings), model=args.model, background=args.background, segments=_SEGMENTS
    )
    table = _count_claims(config, args) if args.task == "unknown" else _compare(config, args)
    print_table(f"custom_heads_{args.task}", *table, args.record)
    return 0


def _load(config: CustomConfig):
    """Return the backbone, the clips and their embeddings."""
    from kerastag.card import Card
    from kerastag.custom.clips import load_clips
    from kerastag.custom.embeddings import load_backbone
    from kerastag.custom.run_inputs import embed_run_clips
    from kerastag.tagger.presets import fetch_model

    path = fetch_model(config.model)
    backbone = load_backbone(path)
    return backbone, *embed_run_clips(config, backbone, load_clips(config, Card.read(path).sample_rate))


def _load_others(folder: Path, model: str):
    """Return the clips of a folder of other sounds and background, their embeddings, and the rows of the folder."""
    from kerastag.custom.clips import BACKGROUND

    config = CustomConfig(audio_dir=str(folder), model=model, folds=0, segments=_SEGMENTS)
    _, clips, embeddings = _load(config)
    return clips, embeddings, np.flatnonzero(~clips.targets[:, clips.class_names.index(BACKGROUND)])


def _compare(config: CustomConfig, args: argparse.Namespace) -> Table:
    from kerastag.custom.tagger import TaggerTrainer

    backbone, clips, embeddings = _load(config)
    titles = [str(size) if size else "all" for size in args.sizes]
    lines = [("logistic regression of whole clips", "clip", *_list_logistic_scores(clips, embeddings.clip, args))]
    for kind, name in itertools.product(args.kinds, args.variants):
        trainer = TaggerTrainer(replace(config, **VARIANTS[name]), backbone, clips, embeddings)
        scores = []
        for size in args.sizes:
            accuracies = []
            for train_rows, test_rows, seed in _split(clips, size, args):
                predictions = trainer.train_head(kind, train_rows, seed).predict(trainer.bags[kind], test_rows)
                classes = np.flatnonzero(clips.targets[clips.recordings].any(axis=0))  # all but background
                predicted = classes[predictions[:, classes].argmax(axis=1)]
                accuracies.append(clips.targets[test_rows, predicted].mean())
            scores.append(f"{np.mean(accuracies):.4f}")
        lines.append((name, kind, *scores))
        print(*lines[-1], file=sys.stderr)
    return ("head", "segments", *(f"{title} clips per class" for title in titles)), lines


def _split(clips, size: int, args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield the rows to train on, the rows to predict, and the seed, for each fold and seed."""
    folds = np.unique(clips.folds[clips.recordings])
    for (fold, next_fold), seed in itertools.product(zip(folds, np.roll(folds, -1), strict=True), args.seeds):
        left_out = (fold, next_fold) if args.inner else (fold,)
        rows = np.flatnonzero(~np.isin(clips.folds, left_out))
        if size:
            draws = clips.folds[rows] < 0  # background, which is always trained on
            random = generator(seed, Purpose.HOLD_OUT, int(fold), size)
            for k in range(clips.targets.shape[1]):
                own = np.flatnonzero(clips.targets[rows, k] & (clips.folds[rows] >= 0))
                draws[random.permutation(own)[:size]] = True
            rows = rows[draws]
        yield rows, np.flatnonzero(clips.folds == (next_fold if args.inner else fold)), seed


def _list_logistic_scores(clips, embeddings: np.ndarray, args: argparse.Namespace) -> list[str]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels, scores = clips.targets.argmax(axis=1), []
    for size in args.sizes:
        accuracies = []
        for train_rows, test_rows, _ in _split(clips, size, args):
            rows = train_rows[clips.folds[train_rows] >= 0]
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            accuracies.append(model.fit(embeddings[rows], labels[rows]).score(embeddings[test_rows], labels[test_rows]))
        scores.append(f"{np.mean(accuracies):.4f}")
    return scores


def _count_claims(config: CustomConfig, args: argparse.Namespace) -> Table:
    from kerastag.custom.calibration import fit_calibration
    from kerastag.custom.clips import BACKGROUND
    from kerastag.custom.cross_validation import cross_validate
    from kerastag.custom.tagger import Bags, TaggerTrainer

    backbone, clips, embeddings = _load(config)
    names = [*(name for name in clips.class_names if name != BACKGROUND)]
    others = [_load_others(folder, args.model) for folder in args.others]
    lines = []
    for kind, variant in itertools.product(args.kinds, args.variants):
        counts = {lost_share: [] for lost_share in args.lost_shares}
        for numbers in SPLITS:
            columns = [*numbers, *range(len(names), len(clips.class_names))]
            is_own = clips.targets[:, columns].any(axis=1)
            own = clips.select(np.flatnonzero(is_own))
            own = replace(own, class_names=tuple(clips.class_names[k] for k in columns))
            own = replace(own, targets=own.targets[:, columns], is_known=own.is_known[:, columns])
            tagger_config = replace(config, segments=kind, **VARIANTS[variant])
            trainer = TaggerTrainer(tagger_config, backbone, own, embeddings.select(np.flatnonzero(is_own)))
            _, _, (probabilities,) = cross_validate(trainer)
            y_true = own.targets[own.recordings]
            calibration = fit_calibration(y_true, probabilities)
            head = trainer.train_head(kind, np.arange(len(own)), config.seeds[0])
            head.calibrate(calibration)
            unknown = [(clips, embeddings, np.flatnonzero(~is_own))]
            predictions = []
            for each, their, rows in [*unknown, *others]:
                bags = Bags.pad([their.bags[kind][index] for index in rows], each.targets[rows])
                predictions.append(head.predict(bags, np.arange(len(rows)))[:, : len(numbers)])
            folds, num_classes = own.folds[own.recordings], len(numbers)
            for lost_share, rows in counts.items():
                num_recalled = _count_recalled(y_true, probabilities, folds, num_classes, lost_share)
                scores = calibration.apply(probabilities)
                thresholds = _select_thresholds(y_true[:, :num_classes], scores[:, :num_classes], lost_share)
                row = [num_recalled, y_true[:, :num_classes].sum()]
                for each in predictions:
                    row += [(each >= thresholds).any(axis=1).sum(), len(each)]
                rows.append(row)
        for lost_share, rows in counts.items():
            totals = np.sum(rows, axis=0).reshape(-1, 2)
            shares = (f"{part / whole:.3f}" for part, whole in totals)
            lines.append((variant, args.background, kind, f"{lost_share:g}", *shares))
            print(*lines[-1], file=sys.stderr)
    others_names = [f"claimed clips of {folder.name}" for folder in args.others]
    header = ("head", "background", "segments", "lost share", "recall", "claimed clips of other classes", *others_names)
    return header, lines


def _select_thresholds(y_true: np.ndarray, y_score: np.ndarray, lost_share: float) -> np.ndarray:
    """Select thresholds as `kerastag learn` does."""
    from kerastag.custom.calibration import raise_thresholds
    from kerastag.custom.report import select_thresholds

    return raise_thresholds(y_true, y_score, np.array(select_thresholds(y_true, y_score)), lost_share)


def _count_recalled(
    y_true: np.ndarray, probabilities: np.ndarray, folds: np.ndarray, num_classes: int, lost_share: float
) -> int:
    """Count the labels that are recalled with the calibration and the thresholds of the other folds."""
    from kerastag.custom.calibration import fit_calibration

    num_recalled = 0
    for fold in np.unique(folds):
        is_other = folds != fold
        calibration = fit_calibration(y_true[is_other], probabilities[is_other])
        targets, scores = y_true[:, :num_classes], calibration.apply(probabilities)[:, :num_classes]
        thresholds = _select_thresholds(targets[is_other], scores[is_other], lost_share)
        num_recalled += int(((scores >= thresholds) & targets)[~is_other].sum())
    return num_recalled


if __name__ == "__main__":
    sys.exit(main())
