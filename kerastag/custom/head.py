"""The head of a tagger: feature-level attention and a linear model of the average embedding, in one last layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastag.custom.calibration import Calibration
from kerastag.custom.config import CustomConfig
from kerastag.data.batches import BalancedSampler, Batches, EmbeddingBatches
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.models.embedding_models import feature_attention
from kerastag.rng import Purpose, generator
from kerastag.training.config import TrainingConfig
from kerastag.training.evaluation import predict
from kerastag.training.optimization import compile_model
from kerastag.training.outputs import select_training_outputs
from kerastag.training.state import build_optimizer
from kerastag.training.trainer import make_dataset

__all__ = ["AttentionHead", "Bags", "compile_training_model", "encode_targets", "fit_model"]

_LOGIT = 4.0
_COSINE_LOGIT = 10.0  # Clips of one class have a mean cosine of about 0.4.
_BALANCE = 0.5  # There may be many more clips of background than of the other classes.
_POOLINGS = ("average", "maximum")
_BATCH_NORM_MOMENTUM = 0.9  # Moving averages over a hundred steps would not converge within a few hundred.


@dataclass(frozen=True, eq=False)
class Bags:
    """Bags of embeddings in memory, which batches are drawn from like from packs.

    Attributes:
        x: Embeddings, float32 `(clips, segments, features)`, with zeros after the last segment of a clip.
        lengths: Number of segments of every clip, int `(clips,)`.
        targets: Labels, bool `(clips, classes)`.
        is_known: Whether each label is known, bool `(clips, classes)`; None where all are.
    """

    x: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    is_known: np.ndarray | None = None

    @classmethod
    def pad(cls, bags: Sequence[np.ndarray], targets: np.ndarray, is_known: np.ndarray | None = None) -> "Bags":
        """Pad bags `(segments, features)` of different lengths."""
        lengths = np.array([len(bag) for bag in bags])
        x = np.zeros((len(bags), lengths.max(), bags[0].shape[1]), np.float32)
        for row, bag in zip(x, bags, strict=True):
            row[: len(bag)] = bag
        return cls(x, lengths, targets, is_known)

    @property
    def known_targets(self) -> np.ndarray:
        """Labels that are known to be there, bool `(clips, classes)`."""
        return self.targets if self.is_known is None else self.targets & self.is_known

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return embeddings, numbers of segments and targets of clips; the target of an unknown label is NaN."""
        is_known = None if self.is_known is None else self.is_known[indices]
        return self.x[indices], self.lengths[indices], encode_targets(self.targets[indices], is_known)


def encode_targets(targets: np.ndarray, is_known: np.ndarray | None) -> np.ndarray:
    """Convert labels to float32 targets, with NaN where a label is not known."""
    values = targets.astype(np.float32)
    return values if is_known is None else np.where(is_known, values, np.float32(np.nan))


class KnownLabelLoss(keras.losses.BinaryCrossentropy):
    """Binary cross-entropy of the labels that are known; the target of an unknown one is NaN."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        is_known = ops.logical_not(ops.isnan(y_true))
        zeros = ops.zeros_like(y_pred)  # of probability and target, whose loss is zero
        return super().call(ops.where(is_known, y_true, zeros), ops.where(is_known, y_pred, zeros))


class AttentionHead:
    """A head that can be trained many times: attention and a linear model, whose logits are averaged.

    `logits = (1 - s) W1 h + s W2 (mean(x), max(x)) + b`, where `h` are the features of feature-level attention, `mean`
    and `max` are over the segments and normalized, and `s` is `linear_share`. Attention is trained by gradient descent,
    with a last layer of its own. `W2` is the weighted mean of ridge regression and of the similarity to the clips of a
    class, ten times the mean cosine of the angle between the features; `linear_similarity` is the weight of the latter,
    with which a clip that is like no class has low logits. All are rows of one last layer, and the head is exported and
    streamed like any other. With `s = 1`, the default, there is no attention: on ESC-10, it improved nothing. The head
    is compiled once, since compiling takes longer than training.

    Attributes:
        model: Model that takes bags `(batch, segments, features)` and predicts `clipwise` and `framewise`.

    Reference: Kong et al., 2019, equations 20 to 24, for the attention.
    """

    def __init__(self, config: CustomConfig, num_classes: int, num_features: int) -> None:
        self.config = config
        self.model = feature_attention(
            num_classes=num_classes,
            num_features=num_features,
            units=config.units,
            depth=config.depth,
            dropout=config.dropout,
            with_pooling=True,
        )
        self._normalization = next(layer for layer in self.model.layers if isinstance(layer, MaskedBatchNormalization))
        self._clip_model = select_training_outputs(self.model)
        *_, self._classifier = (layer for layer in self.model.layers if isinstance(layer, keras.layers.Dense))
        features = self.model.get_layer("clip_features")
        self._features = keras.Model(self.model.input, features.output)
        self._pooling = keras.Model(self.model.input, [self.model.get_layer(name).output for name in _POOLINGS])
        self._attention_classifier = keras.layers.Dense(num_classes, activation="sigmoid")
        self._attention = keras.Model(self.model.input, {"clipwise": self._attention_classifier(features.input[0])})
        self._trained_model = compile_training_model(
            self._attention, config.steps, config.learning_rate, _BATCH_NORM_MOMENTUM
        )

    def train(self, bags: Bags, rows: np.ndarray, seed: int) -> None:
        """Initialize the head and train it on clips; a loss that is not finite is a FloatingPointError."""
        self._initialize(seed, bags.x[rows])
        if self.config.linear_share < 1:
            self._train_attention(bags, rows, seed)
        self._fit_linear_model(bags, rows)

    def predict(self, bags: Bags, rows: np.ndarray) -> np.ndarray:
        """Predict the probabilities of clips, float32 `(rows, classes)`."""
        return predict(self._clip_model, bags, rows)

    def calibrate(self, calibration: Calibration) -> None:
        """Change the last layer, so that the logits become `slope * logit + offset` for clips and for segments."""
        kernel, bias = self._classifier.get_weights()
        self._classifier.set_weights([kernel * calibration.slopes, bias * calibration.slopes + calibration.offsets])

    def _initialize(self, seed: int, x: np.ndarray) -> None:
        """Set all variables to those of a new model and a new optimizer.

        The first normalization starts with the statistics of the embeddings, which a few steps would not reach.
        """
        keras.utils.set_random_seed(seed)
        new_model = keras.models.clone_model(self._attention)
        for variable, new_variable in zip(self._attention.variables, new_model.variables, strict=True):
            variable.assign(new_variable)
        for variable in self._trained_model.optimizer.variables:  # the learning rate is a schedule, not a variable
            variable.assign(keras.ops.zeros_like(variable))
        _set_statistics(self._normalization, x[x.any(axis=2)])

    def _train_attention(self, bags: Bags, rows: np.ndarray, seed: int) -> None:
        config, targets = self.config, bags.known_targets[rows]
        sampler = BalancedSampler(targets, config.batch_size, balance=_BALANCE, seed=seed, allow_empty_classes=True)
        batches = NoisyBatches(EmbeddingBatches(bags, sampler, rows, mixup=config.mixup), config.noise, seed)
        fit_model(self._trained_model, batches, config.steps, "learning_rate")

    def _fit_linear_model(self, bags: Bags, rows: np.ndarray) -> None:
        """Fit the linear model of a trained head, and combine it with attention in the last layer."""
        weights = compute_weights(bags.known_targets[rows])
        for name, values in zip(_POOLINGS, predict(self._pooling, bags, rows), strict=True):
            _set_statistics(self.model.get_layer(f"{name}_normalization"), values, weights, share_of_mean=0.1)
        kernel, bias = self._attention_classifier.get_weights()
        features = predict(self._features, bags, rows)[:, len(kernel) :]
        is_known = np.ones_like(bags.targets) if bags.is_known is None else bags.is_known
        linear_kernel, linear_bias = fit_linear_model(
            features, bags.targets[rows], is_known[rows], self.config.linear_regularization
        )
        means = compute_class_means(features, bags.known_targets[rows])
        similarity = self.config.linear_similarity
        linear_kernel = (1 - similarity) * linear_kernel + similarity * _COSINE_LOGIT * means / len(means)
        linear_bias = (1 - similarity) * linear_bias
        share = self.config.linear_share
        kernels = [(1 - share) * kernel, share * linear_kernel]
        self._classifier.set_weights([np.concatenate(kernels), (1 - share) * bias + share * linear_bias])


@dataclass(frozen=True)
class NoisyBatches:
    """Batches of embeddings, each value of which is multiplied by `1 + noise * n` with a standard normal `n`."""

    batches: Batches
    noise: float
    seed: int

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batch `index`: embeddings `(batch, segments, features)` and targets `(batch, classes)`, float32."""
        x, targets = self.batches.batch(index)
        if not self.noise:
            return x, targets
        random = generator(self.seed, Purpose.EMBEDDING_BATCH, index, 1)
        return x * (1 + self.noise * random.standard_normal(x.shape, dtype=np.float32)), targets


def compute_weights(targets: np.ndarray) -> np.ndarray:
    """Compute weights of clips, at most 1, so that no class has more weight than the mean class has clips.

    There may be many more clips of background than of all classes together.

    >>> compute_weights(np.array([[True, False], [False, True], [False, True], [False, True]])).round(3).tolist()
    [1.0, 0.667, 0.667, 0.667]
    """
    counts = targets.sum(axis=0)
    class_weights = np.minimum(1, counts.mean() / np.maximum(1, counts))
    return np.where(targets.any(axis=1), np.where(targets, class_weights, 0).max(axis=1), 1)


def fit_linear_model(
    x: np.ndarray, targets: np.ndarray, is_known: np.ndarray, regularization: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit ridge regression to logits of 4 for clips that have a class and of -4 for the others.

    Logistic regression would fit the clips at hand as well, but would claim more sounds that none of them is like.

    Args:
        x: Features of clips, float `(clips, features)`.
        targets: Labels, bool `(clips, classes)`.
        is_known: Whether each label is known, bool `(clips, classes)`; the others are left out.
        regularization: Weight of the squared coefficients relative to the mean squared norm of the features, above 0.

    Returns:
        Kernel `(features, classes)` and bias `(classes,)`, float32.

    >>> x = np.array([[1.0], [-1.0]])
    >>> fit_linear_model(x, np.array([[True], [False]]), np.ones((2, 1), bool), 1.0)
    (array([[2.6666667]], dtype=float32), array([0.], dtype=float32))
    """
    kernel, bias = (np.zeros((size, targets.shape[1]), np.float32) for size in (x.shape[1], 1))
    logits = np.where(targets, _LOGIT, -_LOGIT)
    masks, groups = np.unique(is_known, axis=1, return_inverse=True)
    for number, mask in enumerate(masks.T):
        classes = np.flatnonzero(groups.ravel() == number)
        features, y = x[mask].astype(np.float64), logits[np.ix_(mask, classes)]
        center, mean = features.mean(axis=0), y.mean(axis=0)
        features -= center
        penalty = max(1e-6, regularization * (features**2).sum(axis=1).mean()) * np.eye(x.shape[1])
        solution = np.linalg.solve(features.T @ features + penalty, features.T @ (y - mean))
        kernel[:, classes], bias[:, classes] = solution, mean - center @ solution
    return kernel, bias[0]


def compute_class_means(x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute the mean features of the clips of each class.

    The product of normalized features with it, divided by their number, is the mean cosine of the angle to these clips.

    Args:
        x: Features of clips, float `(clips, features)`.
        targets: Labels, bool `(clips, classes)`.

    Returns:
        Means, float32 `(features, classes)`; zeros for a class without clips.

    >>> x = np.array([[1.0], [2.0], [6.0]])
    >>> compute_class_means(x, np.array([[True, False], [True, False], [False, False]]))
    array([[1.5, 0. ]], dtype=float32)
    """
    return (x.T @ targets / np.maximum(1, targets.sum(axis=0))).astype(np.float32)


def compile_training_model(
    model: keras.Model, steps: int, learning_rate: float, batch_norm_momentum: float | None = None
) -> keras.Model:
    """Return the part of a model that is trained, compiled."""
    trained_model = select_training_outputs(model)
    config = TrainingConfig(
        steps=steps, learning_rate=learning_rate, schedule="cosine", batch_norm_momentum=batch_norm_momentum
    )
    compile_model(trained_model, config)
    trained_model.compile(trained_model.optimizer, KnownLabelLoss())
    build_optimizer(trained_model)
    return trained_model


def fit_model(model: keras.Model, batches: Batches, steps: int, rate_name: str) -> None:
    """Train a compiled model; `rate_name` names the field of its learning rate in the error of a loss that diverges."""
    dataset = make_dataset(batches, 0, steps)
    history = model.fit(
        dataset, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[keras.callbacks.TerminateOnNaN()]
    )
    if not np.isfinite(history.history["loss"][-1]):
        raise FloatingPointError(f"the loss is not finite: decrease `{rate_name}`")


def _set_statistics(
    normalization: MaskedBatchNormalization,
    x: np.ndarray,
    weights: np.ndarray | None = None,
    share_of_mean: float = 0.0,
) -> None:
    """Set the statistics of a normalization to those of `x` `(rows, features)`, which have weights `(rows,)`.

    A share of the mean variance is added to that of each feature, since few rows estimate a small one badly.
    """
    mean = np.average(x, axis=0, weights=weights)
    variance = np.average((x - mean) ** 2, axis=0, weights=weights)
    normalization.moving_mean.assign(mean)
    normalization.moving_variance.assign(variance + share_of_mean * variance.mean())
