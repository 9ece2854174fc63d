"""Recordings -> what a pretrained backbone makes of them: embeddings of output frames, of seconds and of the clip."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastag import audio
from kerastag.card import Card
from kerastag.data.audio_lists import AudioList
from kerastag.files import write_atomically
from kerastag.layers.patchwise import Patchwise
from kerastag.models.loading import load_model
from kerastag.tagger import model_file

KINDS = ("frames", "seconds")
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Backbone:
    """A pretrained tagger, taken apart.

    Attributes:
        card: what it is.
        path: of its file.
        embed: function-like models from waveform `(batch, samples)`, by kind, to `(batch, segments, features)`.
        clip: model from waveform to the embedding of the whole clip `(batch, features)`.
        seconds: from one segment to the next, by kind.
    """

    card: Card
    path: Path
    embed: dict[str, keras.Model]
    clip: keras.Model
    seconds: dict[str, float]


def load_backbone(name: str) -> Backbone:
    """A `.keras` file with its card, or the name of published weights -> the backbone.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it has no card, does not hear waveforms, or embeds nothing.
    """
    path = model_file(name)
    card = Card.read(path)
    model = load_model(path)
    outputs = model.output if isinstance(model.output, dict) else {}
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 2 or not {"framewise", "embedding"} <= outputs.keys():
        raise ValueError(f"{path}: must hear waveforms and give `framewise` and `embedding`; outputs {sorted(outputs)}")
    clip = keras.Model(model.input, outputs["embedding"])
    return Backbone(
        card,
        path,
        {"frames": keras.Model(model.input, frame_features(model)), "seconds": _by_second(clip, card.sample_rate)},
        clip,
        {"frames": card.seconds_per_frame or 1.0, "seconds": 1.0},
    )


def frame_features(model: keras.Model) -> Any:
    """A tagger -> the last tensor `(batch, frames, features)` from which both its outputs are made."""
    above = [_ancestors(model.output[name]) for name in ("framewise", "embedding")]
    shared = [tensor for key, tensor in above[0].items() if key in above[1] and len(tensor.shape) == 3]
    if not shared:
        raise ValueError("`model` has no frame features that its `framewise` and `embedding` share")
    return shared[-1]


def _ancestors(tensor: Any) -> dict[tuple[int, int], Any]:
    """Everything a tensor is computed from, first things first."""
    found: dict[tuple[int, int], Any] = {}
    waiting = [(tensor, False)]
    while waiting:
        current, visited = waiting.pop()
        operation, node, _ = current._keras_history
        key = (id(operation), node)
        if visited:
            found.setdefault(key, current)
        elif key not in found:
            waiting.append((current, True))
            waiting += [(above, False) for above in operation._inbound_nodes[node].input_tensors]
    return found


def _by_second(clip: keras.Model, sample_rate: int) -> keras.Model:
    """Waveform -> the embedding of each second; a rest of half a second or more is one, padded with silence."""
    second = keras.Input((sample_rate, 1), name="second")
    network = keras.Model(second, clip(ops.squeeze(second, -1)))
    waveform = keras.Input((None,), name="waveform")
    padded = ops.pad(waveform, [[0, 0], [0, sample_rate // 2]])
    return keras.Model(waveform, Patchwise(network, sample_rate, name="seconds")(ops.expand_dims(padded, -1)))


@dataclass(frozen=True, eq=False)
class Embedded:
    """Clips in a backbone's terms.

    Attributes:
        bags: by kind, an array `(segments, features)` a clip.
        clip: `(clips, features)`, of the whole clips.
        readable: `(clips,)`, whether each could be read; the others are empty.
        errors: messages of those that could not.
    """

    bags: dict[str, list[np.ndarray]]
    clip: np.ndarray
    readable: np.ndarray
    errors: tuple[str, ...]

    def padded(self, kind: str) -> np.ndarray:
        """`(clips, segments, features)`, zeros after a clip's last segment."""
        bags = self.bags[kind]
        padded = np.zeros((len(bags), max(map(len, bags)), bags[0].shape[1]), np.float32)
        for row, bag in zip(padded, bags, strict=True):
            row[: len(bag)] = bag
        return padded


def embed(
    backbone: Backbone, clips: AudioList, background: Sequence[np.ndarray], seconds: float, cache: Path
) -> Embedded:
    """Recordings, and waveforms of background after them -> their embeddings, from the cache where it fits.

    Args:
        backbone: from `load_backbone`.
        clips: from `kerastag.data.audio_lists`.
        background: waveforms at the backbone's sample rate.
        seconds: how much of a longer recording to hear.
        cache: folder that keeps embeddings, a file for each set of clips.
    """
    file = cache / f"{_fingerprint(backbone, clips, background, seconds)[:32]}.npz"
    if (kept := _read_cache(file)) is not None:
        return kept
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    whole, readable, errors = [], [], []
    for waveform in _waveforms(backbone, clips, background, seconds):
        readable.append(isinstance(waveform, np.ndarray))
        if not isinstance(waveform, np.ndarray):
            errors.append(str(waveform))
            print(f"left out: {waveform}", file=sys.stderr)
            waveform = np.zeros(backbone.card.sample_rate, np.float32)
        for kind in KINDS:
            found[kind].append(np.asarray(backbone.embed[kind].predict_on_batch(waveform[None])[0], np.float32))
        whole.append(np.asarray(backbone.clip.predict_on_batch(waveform[None])[0], np.float32))
    if not any(readable[: len(clips)]):
        raise ValueError(f"{clips.source}: none of {len(clips)} recordings can be read: {errors[0]}")
    made = Embedded(found, np.stack(whole), np.array(readable), tuple(errors))
    _write_cache(file, made)
    return made


def waveform_of(path: Path, sample_rate: int, seconds: float) -> np.ndarray:
    """A recording -> its waveform, at least one second long."""
    waveform = audio.load(path, sample_rate, duration_seconds=seconds)
    return np.pad(waveform, (0, max(0, sample_rate - len(waveform))))


def _waveforms(
    backbone: Backbone, clips: AudioList, background: Sequence[np.ndarray], seconds: float
) -> Iterator[np.ndarray | Exception]:
    from tqdm import tqdm

    for recording in tqdm(clips.recordings, unit="clip", dynamic_ncols=True, disable=None, file=sys.stderr):
        try:
            yield waveform_of(recording.path, backbone.card.sample_rate, seconds)
        except (ValueError, OSError) as error:
            yield error
    yield from background


def _fingerprint(backbone: Backbone, clips: AudioList, background: Sequence[np.ndarray], seconds: float) -> str:
    digest = hashlib.sha256(f"{_VERSION} {seconds}".encode())
    digest.update(backbone.path.read_bytes())
    for recording in clips.recordings:
        status = recording.path.stat()
        digest.update(f"{recording.path} {status.st_size} {status.st_mtime_ns}".encode())
    for waveform in background:
        digest.update(waveform.tobytes())
    return digest.hexdigest()


def _read_cache(file: Path) -> Embedded | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            bags = {kind: np.split(kept[kind], kept[f"{kind}_ends"][:-1]) for kind in KINDS}
            return Embedded(bags, kept["clip"], kept["readable"], tuple(kept["errors"].tolist()))
    except (OSError, ValueError, KeyError, EOFError):
        return None  # none yet, or not whole: embeddings can always be made again


def _write_cache(file: Path, made: Embedded) -> None:
    arrays: dict[str, Any] = {"clip": made.clip, "readable": made.readable}
    for kind, bags in made.bags.items():
        arrays |= {kind: np.concatenate(bags), f"{kind}_ends": np.cumsum([len(bag) for bag in bags])}
    arrays["errors"] = np.array(made.errors, dtype=str)
    write_atomically(file, lambda path: np.savez(path, **arrays))
