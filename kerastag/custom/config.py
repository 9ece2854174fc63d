"""Configuration of a tagger of the user's own sounds."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from kerastag.audio.channels import parse_channel
from kerastag.data.audio_lists import Excerpts
from kerastag.training.config import check_value

__all__ = ["CustomConfig"]


@dataclass(frozen=True, kw_only=True)
class CustomConfig:
    """Configuration of a tagger of the user's own sounds.

    Args:
        audio_dir: Folder that contains one folder per class, or that the paths in `labels` are relative to; required.
        labels: Table of labels, with columns such as `path`, `labels` and `fold`, or of ESC-50, UrbanSound8K, FSD50K,
            DCASE, AudioSet, Raven, Audacity or Whombat; or a folder with one table for each recording. None for one
            folder per class.
        path_column: Column of file names in `labels`; None takes the usual names, such as `path` and `filename`.
        label_column: Column of labels in `labels`, or key of Whombat's tags; None takes the usual names.
        separator: Text between the labels of a cell; None takes `;`, `|` and commas that are not in a name.
        excerpts: What labels with a start and an end make of a recording: a clip of each labeled part (`cut`), silence
            outside of the labeled parts (`mask`), or the whole recording (`whole`).
        channel: Channel of recordings with several: `mean`, `left`, `right`, `loudest`, or a number from 1.
        model: Backbone: a `.keras` file with a card, or the name of published weights.
        folds: Number of folds of the cross-validation, at least 3. 0 for none: thresholds are then selected on the
            clips that were trained on.
        fold_pattern: Regular expression whose first group matches the fold in a file name. Without it and without a
            column `fold`, the fold is the first number of names such as `1-100032-A.ogg`. If there are no such names,
            every class is spread over the folds, and files whose names differ only after the last `-` or `_` stay in
            one fold.
        seeds: Seeds of the training runs, each at least 0; the tagger that is saved is trained with the first one.
        segments: What a bag consists of: the output frames of the backbone (`frames`), embeddings of single seconds
            (`seconds`), with which a stream takes less processor time, or whichever is better on clips that are held
            out of the training clips (`best`).
        background: Source of an additional class for everything else: synthetic silence, noises, tones, and speech-like
            and music-like sounds (`synthetic`), these and recordings that kerastag comes with (`bundled`), a folder of
            recordings, or `none`. If every recording has all classes, as with a single one, background is held out in
            the folds too.
        max_seconds: Length of the windows in which a longer recording is read, above 0 s. A recording is one bag,
            however long it is.
        fine_tune: Whether to train the backbone too, after the head.
        run_dir: Run folder, created if missing; `runs/custom/seed_SEED` by default.
        units: Width of the head, at least 1.
        depth: Number of hidden layers before the attention, at least 0.
        dropout: Dropout rate of the head, in [0, 1).
        steps: Number of mini-batches to train the head on, at least 1.
        batch_size: Clips in a mini-batch, at least 1.
        learning_rate: Highest learning rate of the head, above 0; it falls to zero as a half cosine.
        mixup: Alpha of mixup of the embeddings; 0 for none.
        fine_tune_steps: Number of mini-batches of fine-tuning, at least 1.
        fine_tune_batch_size: Clips in a mini-batch of fine-tuning, at least 1.
        fine_tune_learning_rate: Highest learning rate of fine-tuning, above 0.
        linear_share: Share of a linear model in the logits of the head, in [0, 1]; the rest is attention, which is
            trained for `steps` mini-batches.
        linear_regularization: Strength of the regularization of the linear model, above 0.
        linear_similarity: Share in the linear model of the similarity to the clips of a class, in [0, 1], with which
            fewer sounds that are like no class are claimed; the rest is ridge regression.
        noise: Standard deviation of the noise that embeddings are multiplied by in training, at least 0.
        deploy: Whether to export the tagger for a device, to compare the exported files with what was trained, to
            measure false alarms on simulated streams, and to write a report. The default of `kerastag learn`.
        keep_base: Whether the tagger predicts the classes of the backbone too, after the new ones. Of two classes of
            one name, it has the new one.
        reviews: Run whose answers of `kerastag review` correct the labels of the clips, and add clips.
        compare_with: Run that the results are compared with, such as one with fewer recordings.
        ambient: Recording of background without any of the classes, or folder of such recordings, best of many hours,
            in which false alarms are counted. They are always counted in synthetic sounds too.
        other_sounds: Folder of recordings of other sounds, in which false alarms are counted too.
        false_alarms_per_day: Largest expected number of false alarms per day of each class, for which the thresholds of
            the exported tagger are chosen, at least 0; 0 keeps those for held-out clips.
        gain_db: Largest attenuation of a clip in fine-tuning, drawn at random for each clip of a mini-batch, and of a
            quiet copy, dB, at least 0; 0 for none. A device in a quiet room records sounds 30 to 50 dB below those of a
            data set.
        quiet_copies: Whether to train the head on a quiet copy of each clip too, which doubles the time of embedding.

    Raises:
        ValueError: A value is out of range.
    """

    audio_dir: str = ""
    labels: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    separator: str | None = None
    excerpts: Excerpts = "cut"
    channel: str = "mean"
    model: str = "mn04_as"
    folds: int = 5
    fold_pattern: str | None = None
    seeds: tuple[int, ...] = (0,)
    segments: Literal["best", "frames", "seconds"] = "frames"
    background: str = "bundled"
    max_seconds: float = 30.0
    fine_tune: bool = False
    run_dir: str | None = None
    units: int = 256
    depth: int = 0
    dropout: float = 0.5
    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    mixup: float = 0.0
    fine_tune_steps: int = 100
    fine_tune_batch_size: int = 16
    fine_tune_learning_rate: float = 1e-4
    linear_share: float = 1.0
    linear_regularization: float = 0.3
    linear_similarity: float = 0.65
    noise: float = 0.0
    deploy: bool = False
    keep_base: bool = False
    reviews: str | None = None
    compare_with: str | None = None
    ambient: str | None = None
    other_sounds: str | None = None
    false_alarms_per_day: float = 1.0
    gain_db: float = 50.0
    quiet_copies: bool = False

    def __post_init__(self) -> None:
        if self.background == "made_up":  # the name before version 0.1
            object.__setattr__(self, "background", "synthetic")
        parse_channel(self.channel)
        check_value("excerpts", self.excerpts, self.excerpts in get_args(Excerpts), "cut, mask or whole")
        check_value("audio_dir", self.audio_dir, self.audio_dir != "", "a folder of recordings")
        for name in ("units", "steps", "batch_size", "fine_tune_steps", "fine_tune_batch_size"):
            check_value(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "fine_tune_learning_rate", "max_seconds", "linear_regularization"):
            check_value(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "above 0 and finite")
        for name in ("depth", "mixup", "noise"):
            check_value(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        check_value("gain_db", self.gain_db, 0 <= self.gain_db < math.inf, "at least 0 and finite")
        rate = self.false_alarms_per_day
        check_value("false_alarms_per_day", rate, 0 <= rate < math.inf, "at least 0 and finite")
        check_value("dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")
        for name in ("linear_share", "linear_similarity"):
            check_value(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "in [0, 1]")
        check_value("folds", self.folds, self.folds == 0 or self.folds >= 3, "0 or at least 3")
        if self.keep_base:
            check_value("fine_tune", self.fine_tune, not self.fine_tune, "False with `keep_base`")
        check_value("seeds", self.seeds, min(self.seeds, default=-1) >= 0, "at least one number, none negative")
