"""The tagger: a backbone and a head in one model that takes waveforms, trained on some of the clips of a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from kerastag._keras import flatten_layers
from kerastag.custom.clips import Clips, read_windows
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import KINDS, Embeddings, Kind, PretrainedBackbone, make_bag
from kerastag.data.batches import BalancedSampler, Batches, EmbeddingBatches, WaveformBatches
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.models.embedding_models import feature_attention
from kerastag.training.config import TrainingConfig
from kerastag.training.evaluation import predict
from kerastag.training.optimization import compile_model
from kerastag.training.outputs import select_training_outputs
from kerastag.training.state import build_optimizer
from kerastag.training.trainer import make_dataset

__all__ = ["AttentionHead", "Bags", "TaggerTrainer", "Waveforms", "predict_windows"]

_BATCH_NORM_MOMENTUM = 0.9  # Moving averages over a hundred steps would not converge within a few hundred.


@dataclass(frozen=True, eq=False)
class Bags:
    """Bags of embeddings in memory, which batches are drawn from like from packs.

    Attributes:
        x: Embeddings, float32 `(clips, segments, features)`, with zeros after the last segment of a clip.
        lengths: Number of segments of every clip, int `(clips,)`.
        targets: Labels, bool `(clips, classes)`.
    """

    x: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray

    @classmethod
    def pad(cls, bags: Sequence[np.ndarray], targets: np.ndarray) -> "Bags":
        """Pad bags `(segments, features)` of different lengths."""
        lengths = np.array([len(bag) for bag in bags])
        x = np.zeros((len(bags), lengths.max(), bags[0].shape[1]), np.float32)
        for row, bag in zip(x, bags, strict=True):
            row[: len(bag)] = bag
        return cls(x, lengths, targets)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return embeddings, numbers of segments and labels of clips."""
        return self.x[indices], self.lengths[indices], self.targets[indices]


@dataclass(frozen=True, eq=False)
class Waveforms:
    """Waveforms of any length in memory, which batches are drawn from like from packs.

    Attributes:
        waveforms: One array of samples per clip, float32.
        targets: Labels, bool `(clips, classes)`.
    """

    waveforms: Sequence[np.ndarray]
    targets: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of samples of every clip, int `(clips,)`."""
        return np.array([len(waveform) for waveform in self.waveforms])

    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray:
        """Return one part of each of some clips, float32 `(batch, samples)`, with zeros after the end of a clip."""
        crops = np.zeros((len(indices), samples), np.float32)
        for crop, index, start in zip(crops, indices, starts, strict=True):
            part = self.waveforms[index][start : start + samples]
            crop[: len(part)] = part
        return crops


class AttentionHead:
    """Feature-level attention over embeddings, which can be trained many times.

    `h_j = sum over segments of q(x)_j u(x)_j` and a classifier of `h`. The head is compiled once, since compiling takes
    longer than training.

    Attributes:
        model: Model that takes bags `(batch, segments, features)` and predicts `clipwise` and `framewise`.

    Reference: Kong et al., 2019, equations 20 to 24.
    """

    def __init__(self, config: CustomConfig, num_classes: int, num_features: int) -> None:
        self.config = config
        self.model = feature_attention(
            num_classes=num_classes,
            num_features=num_features,
            units=config.units,
            depth=config.depth,
            dropout=config.dropout,
        )
        self._trained_model = _compile(self.model, config.steps, config.learning_rate, _BATCH_NORM_MOMENTUM)

    def train(self, bags: Bags, rows: np.ndarray, seed: int) -> None:
        """Initialize the head and train it on clips; a loss that is not finite is a FloatingPointError."""
        self._initialize(seed, bags.x[rows])
        sampler = BalancedSampler(bags.targets[rows], self.config.batch_size, balance=0.0, seed=seed)
        batches = EmbeddingBatches(bags, sampler, rows, mixup=self.config.mixup)
        _fit(self._trained_model, batches, self.config.steps, "learning_rate")

    def predict(self, bags: Bags, rows: np.ndarray) -> np.ndarray:
        """Predict the probabilities of clips, float32 `(rows, classes)`."""
        return predict(self._trained_model, bags, rows)

    def _initialize(self, seed: int, x: np.ndarray) -> None:
        """Set all variables to those of a new model and a new optimizer.

        The first normalization starts with the statistics of the embeddings, which a few steps would not reach.
        """
        keras.utils.set_random_seed(seed)
        new_model = keras.models.clone_model(self.model)
        for variable, new_variable in zip(self.model.variables, new_model.variables, strict=True):
            variable.assign(new_variable)
        for variable in self._trained_model.optimizer.variables:  # the learning rate is a schedule, not a variable
            variable.assign(keras.ops.zeros_like(variable))
        segments = x[x.any(axis=2)]
        normalization = next(layer for layer in self.model.layers if isinstance(layer, MaskedBatchNormalization))
        normalization.moving_mean.assign(segments.mean(axis=0))
        normalization.moving_variance.assign(segments.var(axis=0))


class TaggerTrainer:
    """Trains taggers on some of the clips of a run, which can all be read, and predicts other clips.

    There is one head for each kind of segments. Every training initializes it.
    """

    def __init__(
        self, config: CustomConfig, backbone: PretrainedBackbone, clips: Clips, embeddings: Embeddings
    ) -> None:
        self.config, self.backbone, self.clips = config, backbone, clips
        self.bags = {kind: Bags.pad(embeddings.bags[kind], clips.targets) for kind in KINDS}
        self._num_windows = embeddings.num_windows
        self._heads: dict[Kind, AttentionHead] = {}
        self._waveforms: dict[int, np.ndarray] = {}

    def train_head(self, kind: Kind, rows: np.ndarray, seed: int) -> AttentionHead:
        """Train the head for a kind of segments on clips, and return it."""
        if kind not in self._heads:
            num_features = self.bags[kind].x.shape[2]
            self._heads[kind] = AttentionHead(self.config, len(self.clips.class_names), num_features)
        self._heads[kind].train(self.bags[kind], rows, seed)
        return self._heads[kind]

    def train(self, kind: Kind, rows: np.ndarray, seed: int) -> tuple[keras.Model, AttentionHead]:
        """Train a tagger on clips; return it and its head, which shares its layers, as the backbone does."""
        head = self.train_head(kind, rows, seed)
        tagger = _build_tagger(self.backbone.embedders[kind], head.model)
        if self.config.fine_tune:
            self._fine_tune(tagger, rows, seed)
            if (self._num_windows[rows] > 1).any():  # One window does not show the head what else is in a recording.
                bags = Bags.pad([self._embed(kind, row) for row in rows], self.clips.targets[rows])
                head.train(bags, np.arange(len(rows)), seed)
        return tagger, head

    def predict(self, tagger: keras.Model, kind: Kind, rows: np.ndarray) -> np.ndarray:
        """Predict the probabilities of clips with the tagger that was trained last, float32 `(rows, classes)`."""
        if self.config.fine_tune:
            return np.stack([self._predict_clip(tagger, kind, row) for row in rows])
        return self._heads[kind].predict(self.bags[kind], rows)

    def predict_held_out(self, kind: Kind, train_rows: np.ndarray, test_rows: np.ndarray, seed: int) -> np.ndarray:
        """Train a tagger, predict clips that it was not trained on, and restore the backbone."""
        embedder = self.backbone.embedders[kind]
        weights = embedder.get_weights() if self.config.fine_tune else None
        tagger, _ = self.train(kind, train_rows, seed)
        probabilities = self.predict(tagger, kind, test_rows)
        if weights is not None:
            embedder.set_weights(weights)
        return probabilities

    def _fine_tune(self, tagger: keras.Model, rows: np.ndarray, seed: int) -> None:
        """Train all weights of a tagger on random crops of clips, which are as long as the median clip.

        Of a clip of several windows, the one in which the tagger predicts its classes best is used: a random crop of a
        long recording would rarely contain them. The batch normalizations of the backbone stay as they are: a few
        hundred clips would spoil their statistics.
        """
        windows = [self._select_window(tagger, row) for row in rows]
        waveforms = Waveforms(windows, self.clips.targets[rows])
        for layer in flatten_layers(tagger):
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        steps = self.config.fine_tune_steps
        model = _compile(tagger, steps, self.config.fine_tune_learning_rate)
        sampler = BalancedSampler(waveforms.targets, self.config.fine_tune_batch_size, balance=0.0, seed=seed)
        batches = WaveformBatches(waveforms, sampler, samples=int(np.median(waveforms.lengths)))
        _fit(model, batches, steps, "fine_tune_learning_rate")

    def _predict_clip(self, tagger: keras.Model, kind: Kind, row: int) -> np.ndarray:
        if self._num_windows[row] == 1:
            return predict_windows(tagger, self._read_windows(row))
        bag = self._embed(kind, row)
        return np.asarray(self._heads[kind].model.predict_on_batch(bag[None])["clipwise"][0], np.float32)

    def _embed(self, kind: Kind, row: int) -> np.ndarray:
        embedder = self.backbone.embedders[kind]
        windows = [embedder.predict_on_batch(window[None])[0] for window in self._read_windows(row)]
        return make_bag([np.asarray(window, np.float32) for window in windows])

    def _select_window(self, tagger: keras.Model, row: int) -> np.ndarray:
        windows = self._read_windows(row)
        if self._num_windows[row] == 1:
            return next(iter(windows))
        return max(windows, key=lambda window: predict_windows(tagger, [window])[self.clips.targets[row]].mean())

    def _read_windows(self, row: int) -> Iterable[np.ndarray]:
        """Read the windows of a clip; clips of one window stay in memory."""
        if row in self._waveforms:
            return [self._waveforms[row]]
        sample_rate = self.backbone.card.sample_rate
        windows = read_windows(self.clips.audio[row], sample_rate, self.config.max_seconds, self.config.channel)
        if self._num_windows[row] > 1:
            return windows
        self._waveforms[row] = next(windows)
        return [self._waveforms[row]]


def predict_windows(tagger: keras.Model, windows: Iterable[np.ndarray]) -> np.ndarray:
    """Predict the highest probability of each class in the windows of a clip, float32 `(classes,)`."""
    predictions = [tagger.predict_on_batch(window[None])["clipwise"][0] for window in windows]
    return np.max(predictions, axis=0).astype(np.float32)


def _build_tagger(embedder: keras.Model, head: keras.Model) -> keras.Model:
    """Build a model of waveforms that predicts `clipwise`, `framewise` and `embedding`, the mean of the embeddings."""
    waveform = keras.Input((None,), name="waveform")
    embeddings = embedder(waveform)
    outputs = {**head(embeddings), "embedding": keras.ops.mean(embeddings, axis=1)}
    named_outputs = {
        name: keras.layers.Activation("linear", dtype="float32", name=name)(output) for name, output in outputs.items()
    }
    return keras.Model(waveform, named_outputs, name="custom")


def _compile(
    model: keras.Model, steps: int, learning_rate: float, batch_norm_momentum: float | None = None
) -> keras.Model:
    """Return the part of a model that is trained, compiled."""
    trained_model = select_training_outputs(model)
    config = TrainingConfig(
        steps=steps, learning_rate=learning_rate, schedule="cosine", batch_norm_momentum=batch_norm_momentum
    )
    build_optimizer(compile_model(trained_model, config))
    return trained_model


def _fit(model: keras.Model, batches: Batches, steps: int, rate_name: str) -> None:
    """Train a compiled model; `rate_name` names the field of its learning rate in the error of a loss that diverges."""
    dataset = make_dataset(batches, 0, steps)
    history = model.fit(
        dataset, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[keras.callbacks.TerminateOnNaN()]
    )
    if not np.isfinite(history.history["loss"][-1]):
        raise FloatingPointError(f"the loss is not finite: decrease `{rate_name}`")
