"""Bags of embeddings -> feature-level attention trained on them, and the model from waveform to tags that results."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.card import Card, write_card
from kerastag.custom.embed import Backbone
from kerastag.files import write_atomically
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.models.embedding_models import feature_attention
from kerastag.models.fingerprint import fingerprint
from kerastag.training.fit import set_batch_norm_momentum
from kerastag.training.outputs import select_training_outputs
from kerastag.training.state import build_optimizer

_MOMENTUM = 0.9  # of the normalizations: a few hundred steps are too few for averages of a hundred


@dataclass(frozen=True)
class HeadSettings:
    """How a head is made and trained; `steps` mini-batches of `batch_size` clips, the rate falling as a cosine."""

    units: int
    depth: int
    dropout: float
    steps: int
    batch_size: int
    learning_rate: float
    mixup: float


class Head:
    """Feature-level attention (eq. 20 to 24) over embeddings, trained anew for every fold by one compiled model.

    Args:
        num_classes: of the targets.
        num_features: of an embedding.
        settings: of the head.
    """

    def __init__(self, num_classes: int, num_features: int, settings: HeadSettings) -> None:
        self.settings = settings
        self.model = feature_attention(
            num_classes=num_classes,
            num_features=num_features,
            units=settings.units,
            depth=settings.depth,
            dropout=settings.dropout,
        )
        set_batch_norm_momentum(self.model, _MOMENTUM)
        self._train = select_training_outputs(self.model)
        rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.steps)
        self._train.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy())
        build_optimizer(self._train)
        self._fresh = [np.array(v) for v in self._train.optimizer.variables]

    def train(self, bags: np.ndarray, targets: np.ndarray, seed: int) -> None:
        """Bags `(clips, segments, features)`, zeros after the last segment, and targets -> fresh weights, trained."""
        random = np.random.default_rng(seed)
        _initialize(self.model, seed)
        self._know(bags)
        for variable, value in zip(self._train.optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        size, order = self.settings.batch_size, np.empty(0, np.int64)
        for _ in range(self.settings.steps):
            while len(order) < size:
                order = np.concatenate([order, random.permutation(len(bags))])
            rows, order = order[:size], order[size:]
            self._train.train_on_batch(*self._mixed(bags[rows], targets[rows].astype(np.float32), random))

    def _know(self, bags: np.ndarray) -> None:
        """The first normalization begins with the statistics of the bags: its moving average has few steps to find."""
        valid = bags[bags.any(axis=2)]  # (segments of all clips, features)
        first = next(layer for layer in self.model.layers if isinstance(layer, MaskedBatchNormalization))
        first.moving_mean.assign(valid.mean(axis=0))
        first.moving_variance.assign(valid.var(axis=0))

    def predict(self, bags: np.ndarray) -> np.ndarray:
        """Bags -> probabilities `(clips, classes)`."""
        return np.asarray(self._train.predict_on_batch(bags))

    def _mixed(self, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        from kerastag.data.batches import mix_up

        return mix_up(x, y, self.settings.mixup, random) if self.settings.mixup else (x, y)


def _initialize(model: keras.Model, seed: int) -> None:
    """Weights and dropout's random state as a new model of this configuration has them under a seed."""
    keras.utils.set_random_seed(seed)
    fresh = keras.models.clone_model(model)
    for variable, value in zip(model.variables, fresh.variables, strict=True):
        variable.assign(value)


def tagger(embed: keras.Model, head: keras.Model) -> keras.Model:
    """Waveform to embeddings, and embeddings to tags -> waveform to tags."""
    waveform = keras.Input((None,), name="waveform")
    embedding = embed(waveform)
    outputs = dict(head(embedding))
    outputs["embedding"] = keras.ops.mean(embedding, axis=1)
    named = {
        name: keras.layers.Activation("linear", dtype="float32", name=name)(tensor) for name, tensor in outputs.items()
    }
    return keras.Model(waveform, named, name="custom")


def fine_tune(
    model: keras.Model,
    waveforms: Sequence[Any],
    targets: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """A tagger and its training clips -> the same tagger with its backbone trained too, end to end.

    Batch normalization keeps the statistics of pretraining: a few hundred clips would spoil them.

    Args:
        model: from `tagger`.
        waveforms: one of any length a clip, or functions that give it.
        targets: `(clips, classes)`.
        steps, batch_size, learning_rate, seed: of Adam under a cosine.
    """
    for layer in model._flatten_layers():
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    trained = select_training_outputs(model)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    trained.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy())
    build_optimizer(trained)
    random, order = np.random.default_rng(seed), np.empty(0, np.int64)
    samples = int(np.median([len(waveform) for waveform in waveforms]))
    for _ in range(steps):
        while len(order) < batch_size:
            order = np.concatenate([order, random.permutation(len(targets))])
        rows, order = order[:batch_size], order[batch_size:]
        batch = np.stack([_crop(waveforms[row], samples, random) for row in rows])
        loss = float(trained.train_on_batch(batch, targets[rows].astype(np.float32)))
        if not np.isfinite(loss):
            raise FloatingPointError("the loss is not finite: lower `fine_tune_learning_rate`")


def _crop(waveform: np.ndarray, samples: int, random: np.random.Generator) -> np.ndarray:
    """A random part of a longer waveform; a shorter one at a random place in silence."""
    spare = abs(len(waveform) - samples)
    start = int(random.integers(0, spare + 1))
    if len(waveform) >= samples:
        return waveform[start : start + samples]
    return np.pad(waveform, (start, spare - start))


def save_tagger(model: keras.Model, path: Path, card: Card) -> None:
    """A tagger and its card -> a `.keras` file, written beside and renamed."""

    def write(beside: Path) -> None:
        model.save(beside)
        write_card(beside, card)

    write_atomically(path, write)


def save_parts(backbone: Backbone, head: keras.Model, folder: Path, card: Card) -> None:
    """The two parts of a tagger of seconds -> `embedder.keras` and `head.keras`, which know that they are a pair.

    Args:
        backbone: whose embeddings of seconds the head has learned.
        head: from embeddings to tags.
        folder: to write them into.
        card: of the tagger.
    """
    embedder = keras.Model(backbone.clip.input, {"embedding": backbone.clip.output}, name="embedder")
    pair = {**card.versions, "embedder": fingerprint(embedder)}
    alone = Card(
        labels=None,
        sample_rate=card.sample_rate,
        window_seconds=backbone.seconds["seconds"],
        front_end=card.front_end,
        origin=card.origin,
        versions=pair,
    )
    save_tagger(embedder, folder / "embedder.keras", alone)
    save_tagger(head, folder / "head.keras", replace(card, versions=pair))
