"""Synthetic clips in AudioSet's embedding space: a full ground truth, and weak and incomplete labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("bal_train", "unbal_train", "eval")

_PROTOTYPE_SEED = 1705  # The sounds are the same in every split and for every seed.
_VARIANTS = 3  # number of prototypes of a class
_BACKGROUNDS = 24
_MAX_EVENTS = 4
_SEGMENTS = 10
_LENGTH_SHARES = np.array([34, 24, 14, 7, 5, 4, 3, 2, 2, 5]) / 100  # shares of events of one to ten segments
_MISSING_LABELS = 0.15
_SHORT_CLIPS = 0.08
_TAIL_EXPONENT = 0.8
_EVENT_GAIN, _EVENT_NOISE, _BACKGROUND_GAIN, _SEGMENT_NOISE = 0.62, 0.30, 0.45, 0.40


@dataclass(frozen=True, eq=False)
class SyntheticFeatures:
    """Synthetic clips with their ground truth.

    Attributes:
        x: Embeddings, uint8 `(clips, segments, features)`, in AudioSet's code: 0 to 255 stand for -2 to 2.
        num_segments: Number of valid segments, uint8 `(clips,)`; the rest of `x` is 0.
        targets: Labels, bool `(clips, classes)`; some are missing in training splits.
        events: Ground truth, bool `(clips, segments, classes)`.
        ids: Names of eleven characters, bytes `(clips,)`.
    """

    x: NDArray[np.uint8]
    num_segments: NDArray[np.uint8]
    targets: NDArray[np.bool_]
    events: NDArray[np.bool_]
    ids: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.x)


def make_synthetic_features(
    num_clips: int,
    *,
    num_classes: int = 40,
    num_features: int = 128,
    seed: int = 0,
    split: str = "bal_train",
) -> SyntheticFeatures:
    """Make clips of short events over a loud, changing background.

        segment = 0.45 * background + 0.40 * noise + sum of gain * (prototype + 0.30 * event_noise)

    Every class has three prototypes, every event a gain and a noise vector. The classes have a long tail; most events
    fill one to three of the ten segments of a clip, some all of them; 8 % of the clips are shorter. In the mean over a
    clip, the background hides a short event: a model that attends to segments is better. Splits and seeds share
    prototypes and backgrounds.

    Args:
        num_clips: Number of clips, at least 1. If it is at least `num_classes`, every class has an event in some clip.
        num_classes: Number of classes, at least 1.
        num_features: Number of features of an embedding, at least 1.
        seed: Seed of the clips, a non-negative integer. Splits of the same seed share no clip.
        split: `bal_train` or `unbal_train`, in which 15 % of the labels are missing, but never the last one of a clip,
            or `eval`, in which none is missing.

    Raises:
        ValueError: An argument is out of range.

    >>> from kerastag.data import make_synthetic_features
    >>> clips = make_synthetic_features(200, num_classes=5, split="eval")
    >>> clips.x.shape, clips.x.dtype.name, bool((clips.targets == clips.events.any(axis=1)).all())
    ((200, 10, 128), 'uint8', True)
    """
    least = {"num_clips": (num_clips, 1), "num_classes": (num_classes, 1), "num_features": (num_features, 1)}
    for name, (value, minimum) in (least | {"seed": (seed, 0)}).items():
        if value < minimum:
            raise ValueError(f"`{name}` must be at least {minimum}; received: {value}")
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}; received: {split!r}")

    rng = np.random.default_rng([seed, SPLITS.index(split)])
    lengths = np.full(num_clips, _SEGMENTS)
    is_short = rng.random(num_clips) < _SHORT_CLIPS
    lengths[is_short] = rng.integers(1, _SEGMENTS, is_short.sum())
    classes = _draw_classes(rng, num_clips, num_classes)
    places = _draw_places(rng, classes >= 0, lengths)
    events = np.zeros((num_clips, _SEGMENTS, num_classes), bool)
    clip, slot, segment = np.nonzero(places)
    events[clip, segment, classes[clip, slot]] = True
    targets = np.asarray(events.any(axis=1))
    return SyntheticFeatures(
        x=_render_embeddings(rng, classes, places, lengths, num_classes, num_features),
        num_segments=lengths.astype(np.uint8),
        targets=targets if split == "eval" else _remove_labels(rng, targets),
        events=events,
        ids=np.array([f"{split[0]}{seed % 1000:03d}{index:07d}" for index in range(num_clips)], dtype="S11"),
    )


def make_synthetic_class_names(num_classes: int) -> list[str]:
    """Return the names of synthetic classes, the most frequent first: `Sound 01`, `Sound 02` and so on."""
    width = max(2, len(str(num_classes)))
    return [f"Sound {k + 1:0{width}d}" for k in range(num_classes)]


def write_synthetic_packs(
    directory: str | Path,
    *,
    num_train: int = 5000,
    num_eval: int = 2000,
    num_classes: int = 40,
    num_features: int = 128,
    seed: int = 0,
) -> dict[str, Path]:
    """Write synthetic clips into the packs `bal_train.h5` and `eval.h5`.

    Args:
        directory: Folder to write to; packs of the same names are replaced.
        num_train: Number of clips of `bal_train`, at least 1.
        num_eval: Number of clips of `eval`, at least 1.
        num_classes: Number of classes, at least 1.
        num_features: Number of features of an embedding, at least 1.
        seed: Seed of the clips, a non-negative integer.

    Returns:
        Path of every pack, by split.

    Raises:
        ValueError: An argument is out of range.

    >>> import tempfile
    >>> from kerastag.data import write_synthetic_packs
    >>> packs = write_synthetic_packs(tempfile.mkdtemp(), num_train=60, num_eval=20, num_classes=4)
    >>> [path.name for path in packs.values()]
    ['bal_train.h5', 'eval.h5']
    """
    from kerastag.data.feature_pack_writer import FeaturePackWriter

    sizes: dict[str, Any] = {"num_classes": num_classes, "num_features": num_features}
    packs = {split: Path(directory) / f"{split}.h5" for split in ("bal_train", "eval")}
    for (split, path), num_clips in zip(packs.items(), (num_train, num_eval), strict=True):
        clips = make_synthetic_features(num_clips, **sizes, seed=seed, split=split)
        attributes = {
            "split": split,
            "source": f"kerastag.data.write_synthetic_packs, seed {seed}",
            "license": "CC0-1.0",
            "class_names": json.dumps(make_synthetic_class_names(num_classes)),
        }
        with FeaturePackWriter(path, **sizes, attributes=attributes) as pack:
            pack.append(clips.x, clips.num_segments, clips.targets, clips.ids)
            pack.finish()
    return packs


def _draw_classes(rng: np.random.Generator, num_clips: int, num_classes: int) -> NDArray[np.int64]:
    """Draw the class of every event, `(clips, event slots)`; -1 for empty slots."""
    shares = (1.0 + np.arange(num_classes)) ** -_TAIL_EXPONENT
    classes = rng.choice(num_classes, size=(num_clips, _MAX_EVENTS), p=shares / shares.sum())
    if num_clips >= num_classes:
        classes[rng.permutation(num_clips)[:num_classes], 0] = np.arange(num_classes)
    num_events = rng.choice(np.arange(1, _MAX_EVENTS + 1), size=num_clips, p=[0.40, 0.35, 0.17, 0.08])
    return np.where(np.arange(_MAX_EVENTS) < num_events[:, None], classes, -1)


def _draw_places(
    rng: np.random.Generator, is_event: NDArray[np.bool_], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Draw the segments of every event, `(clips, event slots, segments)`, among the valid ones of its clip."""
    duration = rng.choice(np.arange(1, _SEGMENTS + 1), size=is_event.shape, p=_LENGTH_SHARES)
    duration = np.minimum(duration, lengths[:, None])
    onset = rng.integers(0, lengths[:, None] - duration + 1)[..., None]
    segment = np.arange(_SEGMENTS)
    return is_event[..., None] & (segment >= onset) & (segment < onset + duration[..., None])


def _render_embeddings(
    rng: np.random.Generator,
    classes: NDArray[np.int64],
    places: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    num_classes: int,
    num_features: int,
) -> NDArray[np.uint8]:
    """Render the 8-bit embeddings, `(clips, segments, features)`."""
    prototype_rng = np.random.default_rng([_PROTOTYPE_SEED, num_classes, num_features])
    prototypes = prototype_rng.standard_normal((num_classes, _VARIANTS, num_features), np.float32)
    backgrounds = prototype_rng.standard_normal((_BACKGROUNDS, num_features), np.float32)

    num_clips, num_slots, _ = places.shape
    # Every segment has one of two backgrounds of its clip, so that the mean over the clip does not cancel them.
    clip_backgrounds = rng.integers(0, _BACKGROUNDS, (num_clips, 2))
    which = rng.integers(0, 2, (num_clips, _SEGMENTS))
    x = backgrounds[np.take_along_axis(clip_backgrounds, which, axis=1)]
    x *= rng.uniform(0.2, 1.8, (num_clips, _SEGMENTS, 1)).astype(np.float32) * _BACKGROUND_GAIN
    x += _SEGMENT_NOISE * rng.standard_normal(x.shape, np.float32)
    for slot in range(num_slots):
        variant = rng.integers(0, _VARIANTS, num_clips)
        event = prototypes[classes[:, slot], variant]
        event = event + _EVENT_NOISE * rng.standard_normal(event.shape, np.float32)
        event *= rng.uniform(0.6, 1.4, (num_clips, 1)).astype(np.float32) * _EVENT_GAIN
        x += places[:, slot, :, None] * event[:, None]
    codes = np.round((np.clip(x, -2, 2) + 2) * (255 / 4)).astype(np.uint8)
    codes[np.arange(_SEGMENTS) >= lengths[:, None]] = 0
    return codes


def _remove_labels(rng: np.random.Generator, targets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Remove some labels, but never the last one of a clip."""
    remaining = targets & (rng.random(targets.shape) >= _MISSING_LABELS)
    return remaining | (targets & ~remaining.any(axis=1, keepdims=True))
