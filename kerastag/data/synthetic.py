"""A made-up world of sounds in AudioSet's embedding space: strong truth, weak and incomplete labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPLITS", "SyntheticFeatures", "synthetic_features", "synthetic_labels", "write_synthetic_packs"]

SPLITS = ("bal_train", "unbal_train", "eval")

_WORLD_SEED = 1705  # The sounds themselves: the same in every split and for every seed of clips.
_VARIANTS = 3  # ways in which a class sounds
_BACKGROUNDS = 24
_MAX_EVENTS = 4
_LENGTH_SHARES = np.array([34, 24, 14, 7, 5, 4, 3, 2, 2, 5]) / 100  # of events of one to ten tenths of a clip
_MISSING_LABELS = 0.15
_SHORT_CLIPS = 0.08
_TAIL_EXPONENT = 0.8
_EVENT_GAIN, _EVENT_NOISE, _BACKGROUND_GAIN, _SEGMENT_NOISE = 0.62, 0.30, 0.45, 0.40


@dataclass(frozen=True, eq=False)
class SyntheticFeatures:
    """Clips of a made-up world.

    Attributes:
        x: (clips, segments, features) uint8 in AudioSet's code, where 0 … 255 stands for -2 … 2.
        num_segments: (clips,) uint8, valid segments of each clip; the rest of `x` is 0, as in every pack.
        targets: (clips, classes) bool, the tags; those of a training split lack some that `events` has.
        events: (clips, segments, classes) bool, where every sound truly is.
        ids: (clips,) bytes of eleven characters.
    """

    x: NDArray[np.uint8]
    num_segments: NDArray[np.uint8]
    targets: NDArray[np.bool_]
    events: NDArray[np.bool_]
    ids: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.x)


def synthetic_features(
    num_clips: int,
    *,
    num_classes: int = 40,
    num_segments: int = 10,
    num_features: int = 128,
    seed: int = 0,
    split: str = "bal_train",
) -> SyntheticFeatures:
    """Turns a seed into clips of short events before a loud, changing background.

    A segment is the sum of its background, of noise and of the events in it::

        segment = 0.45 * background + 0.40 * noise + sum of gain * (prototype + 0.30 * event_noise)

    Each class sounds in three ways (prototypes), each event has a gain and a noise vector of its own. Classes are
    long-tailed; most events fill one to three segments, some all of them. So the mean over a clip buries what one
    segment shows, and a model that can attend to segments wins. Prototypes and backgrounds come from one fixed
    seed: splits and seeds share them.

    Args:
        num_clips: at least 1. From `num_classes` clips on, every class has an event in some clip.
        num_classes: at least 1.
        num_segments: segments of a full clip, 1 to 255; about 8 % of the clips are shorter.
        num_features: length of an embedding, at least 1.
        seed: chooses the clips, 0 or greater. Splits of the same seed share no clip.
        split: `bal_train` and `unbal_train` lack 15 % of their tags (no clip loses its last), `eval` lacks none.

    Raises:
        ValueError: an argument is outside its range.

    >>> clips = synthetic_features(200, num_classes=5, split="eval")
    >>> clips.x.shape, clips.x.dtype.name, bool((clips.targets == clips.events.any(axis=1)).all())
    ((200, 10, 128), 'uint8', True)
    """
    for name, value, most in (
        ("num_clips", num_clips, None),
        ("num_classes", num_classes, None),
        ("num_segments", num_segments, 255),
        ("num_features", num_features, None),
    ):
        if value < 1 or (most is not None and value > most):
            raise ValueError(f"`{name}` must be {'at least 1' if most is None else f'1 to {most}'}, received {value}")
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or greater, received {seed}")
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, received {split!r}")

    rng = np.random.default_rng([seed, SPLITS.index(split)])
    lengths = np.full(num_clips, num_segments)
    if num_segments > 1:
        is_short = rng.random(num_clips) < _SHORT_CLIPS
        lengths[is_short] = rng.integers(1, num_segments, is_short.sum())
    classes = _draw_classes(rng, num_clips, num_classes)
    places = _draw_places(rng, classes >= 0, lengths, num_segments)
    events = np.zeros((num_clips, num_segments, num_classes), bool)
    clip, slot, segment = np.nonzero(places)
    events[clip, segment, classes[clip, slot]] = True
    targets = np.asarray(events.any(axis=1))
    return SyntheticFeatures(
        x=_sound(rng, classes, places, lengths, num_classes, num_features),
        num_segments=lengths.astype(np.uint8),
        targets=targets if split == "eval" else _forget(rng, targets),
        events=events,
        ids=np.array([f"{split[0]}{seed % 1000:03d}{index:07d}" for index in range(num_clips)], dtype="S11"),
    )


def synthetic_labels(num_classes: int) -> list[str]:
    """Turns a number of classes into their names, the most frequent first.

    >>> synthetic_labels(3)
    ['Sound 01', 'Sound 02', 'Sound 03']
    """
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
    """Turns a seed into `bal_train.h5` and `eval.h5`, laid out as packs of AudioSet are.

    Args:
        directory: made where it is missing; packs of the same names are replaced.
        num_train, num_eval: clips of each split, at least 1.
        num_classes, num_features, seed: as for `synthetic_features`.

    Returns:
        Split name to path.

    Raises:
        ValueError: an argument is outside its range.

    >>> import tempfile
    >>> packs = write_synthetic_packs(tempfile.mkdtemp(), num_train=60, num_eval=20, num_classes=4)
    >>> [path.name for path in packs.values()]
    ['bal_train.h5', 'eval.h5']
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    packs = {}
    for split, num_clips in (("bal_train", num_train), ("eval", num_eval)):
        clips = synthetic_features(
            num_clips, num_classes=num_classes, num_features=num_features, seed=seed, split=split
        )
        packs[split] = _write_pack(directory / f"{split}.h5", clips, split, seed)
    return packs


def _write_pack(path: Path, clips: SyntheticFeatures, split: str, seed: int) -> Path:
    from kerastag.data.feature_pack_writer import FeaturePackWriter

    _, num_segments, num_features = clips.x.shape
    attributes = {
        "split": split,
        "source": f"kerastag.data.synthetic, seed {seed}",
        "license": "CC0-1.0",
        "class_names": json.dumps(synthetic_labels(clips.targets.shape[1])),
    }
    with FeaturePackWriter(
        path,
        num_classes=clips.targets.shape[1],
        num_segments=num_segments,
        num_features=num_features,
        attributes=attributes,
    ) as pack:
        pack.append(clips.x, clips.num_segments, clips.targets, clips.ids)
        pack.finish()
    return path


def _draw_classes(rng: np.random.Generator, num_clips: int, num_classes: int) -> NDArray[np.int64]:
    """(clips, event slots) class of each event, long-tailed; -1 where a slot stays empty."""
    shares = (1.0 + np.arange(num_classes)) ** -_TAIL_EXPONENT
    classes = rng.choice(num_classes, size=(num_clips, _MAX_EVENTS), p=shares / shares.sum())
    if num_clips >= num_classes:
        classes[rng.permutation(num_clips)[:num_classes], 0] = np.arange(num_classes)
    num_events = rng.choice(np.arange(1, _MAX_EVENTS + 1), size=num_clips, p=[0.40, 0.35, 0.17, 0.08])
    return np.where(np.arange(_MAX_EVENTS) < num_events[:, None], classes, -1)


def _draw_places(
    rng: np.random.Generator, is_event: NDArray[np.bool_], lengths: NDArray[np.int64], num_segments: int
) -> NDArray[np.bool_]:
    """(clips, event slots, segments) where each event is, inside the valid segments of its clip."""
    tenths = rng.choice(np.arange(1, 11), size=is_event.shape, p=_LENGTH_SHARES)
    duration = np.minimum(np.maximum(1, np.round(tenths * num_segments / 10)), lengths[:, None]).astype(int)
    onset = rng.integers(0, lengths[:, None] - duration + 1)[..., None]
    segment = np.arange(num_segments)
    return is_event[..., None] & (segment >= onset) & (segment < onset + duration[..., None])


def _sound(
    rng: np.random.Generator,
    classes: NDArray[np.int64],
    places: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    num_classes: int,
    num_features: int,
) -> NDArray[np.uint8]:
    """(clips, segments, features) the 8-bit embeddings of what happens in each clip."""
    world = np.random.default_rng([_WORLD_SEED, num_classes, num_features])
    prototypes = world.standard_normal((num_classes, _VARIANTS, num_features), np.float32)
    backgrounds = world.standard_normal((_BACKGROUNDS, num_features), np.float32)

    num_clips, num_slots, num_segments = places.shape
    # Two backgrounds to a clip, and each segment at random in one of them: the mean over a clip cannot subtract it.
    scenes = rng.integers(0, _BACKGROUNDS, (num_clips, 2))
    which = rng.integers(0, 2, (num_clips, num_segments))
    x = backgrounds[np.take_along_axis(scenes, which, axis=1)]
    x *= rng.uniform(0.2, 1.8, (num_clips, num_segments, 1)).astype(np.float32) * _BACKGROUND_GAIN
    x += _SEGMENT_NOISE * rng.standard_normal(x.shape, np.float32)
    for slot in range(num_slots):
        variant = rng.integers(0, _VARIANTS, num_clips)
        event = prototypes[classes[:, slot], variant]
        event = event + _EVENT_NOISE * rng.standard_normal(event.shape, np.float32)
        event *= rng.uniform(0.6, 1.4, (num_clips, 1)).astype(np.float32) * _EVENT_GAIN
        x += places[:, slot, :, None] * event[:, None]
    codes = np.round((np.clip(x, -2, 2) + 2) * (255 / 4)).astype(np.uint8)
    codes[np.arange(num_segments) >= lengths[:, None]] = 0
    return codes


def _forget(rng: np.random.Generator, targets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Targets without some of their tags, never without the last one of a clip."""
    kept = targets & (rng.random(targets.shape) >= _MISSING_LABELS)
    return kept | (targets & ~kept.any(axis=1, keepdims=True))
