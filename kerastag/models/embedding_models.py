"""Every system of paper 1: segment embeddings -> probabilities of the clip and of each of its segments.

Kong et al., "Weakly labelled AudioSet tagging with attention neural networks", 2019. Each builder takes the settings
of `EmbeddingSettings` and returns a model from `(batch, segments, features)` to a dict of

- `clipwise` `(batch, classes)`: probabilities of the clip;
- `framewise` `(batch, segments, classes)`: probabilities of each segment alone.

A segment that is all zeros is padding: it is masked, and its row of `framewise` means nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kerastag.layers.attention_pooling import PHI, AttentionPooling
from kerastag.layers.average_pooling import AveragePooling
from kerastag.layers.half_dropout import HalfDropout
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.layers.max_pooling import MaxPooling
from kerastag.layers.min_pooling import MinPooling

Tensor = Any
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: AveragePooling()(x),
    "max": lambda x: MaxPooling()(x),
    "min": lambda x: MinPooling()(x),
    "max_min": lambda x: layers.Concatenate()([MaxPooling()(x), MinPooling()(x)]),
}
PHI_NAMES = (*PHI, "nin")


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """What the systems of paper 1 share; the defaults are the published run.

    Args:
        num_classes: classes, K.
        num_features: numbers in an embedding, M.
        units: width of every hidden layer, and J of the feature-level systems.
        depth: hidden blocks, at least 0.
        dropout: share of units dropped, in [0, 1).
        normalize_input: batch normalization of the embeddings, as in the authors' PyTorch code.

    Raises:
        ValueError: a setting out of range.
    """

    num_classes: int = 527
    num_features: int = 128
    units: int = 1024
    depth: int = 3
    dropout: float = 0.5
    normalize_input: bool = True

    def __post_init__(self) -> None:
        for name, least in (("num_classes", 1), ("num_features", 1), ("units", 1), ("depth", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, received {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), received {self.dropout}")

    def input(self) -> Tensor:
        """The model's input: `(batch, segments, num_features)`, any number of segments."""
        return keras.Input((None, self.num_features), name="embedding")

    def masked(self, embedding: Tensor) -> Tensor:
        """Embeddings that carry the mask of their padding."""
        return layers.Masking(0.0, name="padding")(embedding)

    def normalized(self, x: Tensor) -> Tensor:
        return MaskedBatchNormalization()(x) if self.normalize_input else x

    def hidden_blocks(self, x: Tensor) -> list[Tensor]:
        """`x' = f_FC(x)`, eq. 17: the input, then the output of each hidden block."""
        outputs = [x]
        for _ in range(self.depth):
            outputs.append(apply(self.block(), outputs[-1]))
        return outputs

    def block(self) -> list[keras.layers.Layer]:
        return [layers.Dense(self.units, use_bias=False), *self.activation()]

    def activation(self) -> list[keras.layers.Layer]:
        return [MaskedBatchNormalization(), layers.ReLU(), self.dropped()]

    def dropped(self) -> keras.layers.Layer:
        return HalfDropout() if self.dropout == 0.5 else layers.Dropout(self.dropout)

    def classes(self) -> keras.layers.Layer:
        """`f(x) = sigmoid(W x + b)`, eq. 18."""
        return layers.Dense(self.num_classes, activation="sigmoid", dtype="float32")

    def class_scores(self) -> keras.layers.Layer:
        """`U x + c`, which attention turns into weights."""
        return layers.Dense(self.num_classes)


def apply(sequence: list[keras.layers.Layer], x: Tensor) -> Tensor:
    """The same layers, one after the other, on whatever they are given: a clip or its segments."""
    for layer in sequence:
        x = layer(x)
    return x


def instance_space(pooling: str = "average", **settings: Any) -> keras.Model:
    """Segments -> the pooled probabilities of a segment classifier: `F(B) = agg f(x)`, eq. 7, 9, 10.

    With `pooling="average"`, trained on single segments, it is the segment-based system (eq. 1) and, with one hidden
    block, Google's baseline; trained on clips, the collective assumption (`"average"`) or the standard one (`"max"`).
    """
    s = EmbeddingSettings(**settings)
    embedding = s.input()
    framewise = s.classes()(s.hidden_blocks(s.normalized(s.masked(embedding)))[-1])
    return _model("instance_space", embedding, _pool(pooling, ("average", "max"), framewise), framewise)


def embedded_space(pooling: str = "average", **settings: Any) -> keras.Model:
    """Segments -> the classifier of one pooled embedding: `F(B) = g(h)`, eq. 13 to 15.

    A segment's own probabilities are those of a clip that holds it alone.
    """
    s = EmbeddingSettings(**settings)
    embedding = s.input()
    pooled = _pool(pooling, tuple(POOLINGS), s.masked(embedding))
    alone = layers.Concatenate()([embedding, embedding]) if pooling == "max_min" else embedding
    network = [MaskedBatchNormalization()] if s.normalize_input else []
    for _ in range(s.depth):
        network += s.block()
    network.append(s.classes())
    return _model("embedded_space", embedding, apply(network, pooled), apply(network, alone))


def jdc(**settings: Any) -> keras.Model:
    """Joint detection and classification (fig. 2a): `sum p(x) f(x)`, p and f with hidden blocks of their own."""
    s = EmbeddingSettings(**settings)
    embedding = s.input()
    x = s.normalized(s.masked(embedding))
    framewise = s.classes()(s.hidden_blocks(x)[-1])
    scores = s.class_scores()(s.hidden_blocks(x)[-1])
    return _model("jdc", embedding, AttentionPooling("sigmoid")([framewise, scores]), framewise)


def self_attention(**settings: Any) -> keras.Model:
    """Self attention (fig. 2b): `sum p(x) f(x)`, p computed from the classifier's own output f(x).

    The paper's figure gives no formula: here `v(x) = sigmoid(U f(x) + c)`.
    """
    s = EmbeddingSettings(**settings)
    embedding = s.input()
    framewise = s.classes()(s.hidden_blocks(s.normalized(s.masked(embedding)))[-1])
    scores = s.class_scores()(framewise)
    return _model("self_attention", embedding, AttentionPooling("sigmoid")([framewise, scores]), framewise)


def decision_attention(**settings: Any) -> keras.Model:
    """Decision-level single attention (fig. 2c): `F(B) = sum p(x') f(x')`, eq. 16 to 19, on the shared x'."""
    s = EmbeddingSettings(**settings)
    embedding = s.input()
    clipwise, framewise = _forward_block(s, s.hidden_blocks(s.normalized(s.masked(embedding)))[-1])
    return _model("decision_attention", embedding, clipwise, framewise)


def multi_attention(**settings: Any) -> keras.Model:
    """Decision-level attention on the last two hidden layers: `F(B) = g(F1(B), F2(B))`, eq. 6, g dense, sigmoid.

    Each level has attention and classification weights of its own. Needs `depth` of at least 2.
    """
    s = EmbeddingSettings(**settings)
    if s.depth < 2:
        raise ValueError(
            f"`depth` must be at least 2: one attention on each of the last two blocks; received {s.depth}"
        )
    embedding = s.input()
    hidden = s.hidden_blocks(s.normalized(s.masked(embedding)))
    levels = [_forward_block(s, level) for level in hidden[-2:]]
    final = [layers.Concatenate(), s.classes()]
    clipwise, framewise = (apply(final, list(outputs)) for outputs in zip(*levels, strict=True))
    return _model("multi_attention", embedding, clipwise, framewise)


def feature_pooling(pooling: str = "average", **settings: Any) -> keras.Model:
    """Features u(x) of the segments, pooled without attention -> the classifier of one vector, eq. 21 and 23.

    u is linear and has no bias, as in `feature_attention`.
    """
    s = EmbeddingSettings(**settings)
    embedding = s.input()
    features = layers.Dense(s.units, use_bias=False)(s.hidden_blocks(s.normalized(s.masked(embedding)))[-1])
    pooled = _pool(pooling, ("average", "max"), features)
    return _classified("feature_pooling", s, embedding, pooled, features)


def feature_attention(phi: str = "sigmoid", **settings: Any) -> keras.Model:
    """Feature-level attention (fig. 3c): `h_j = sum q(x)_j u(x)_j`, `F(B) = f(h)`, eq. 20 to 24.

    u is linear and has no bias: the batch normalization after the pooling would take it away. `phi` makes q: `relu`,
    `exp`, `sigmoid`, `softmax` (eq. 25 to 28) or `nin`, two layers (eq. 29).
    A segment's own probabilities are those of a clip that holds it alone, where attention has no choice: `f(u(x))`.
    """
    s = EmbeddingSettings(**settings)
    if phi not in PHI_NAMES:
        raise ValueError(f"`phi` must be one of {', '.join(PHI_NAMES)}; received {phi!r}")
    embedding = s.input()
    hidden = s.hidden_blocks(s.normalized(s.masked(embedding)))[-1]
    features = layers.Dense(s.units, use_bias=False)(hidden)
    scores = layers.Dense(s.units)(hidden)
    if phi == "nin":
        scores = layers.Dense(s.units)(layers.Dense(s.units, activation="relu")(scores))
    pooled = AttentionPooling("sigmoid" if phi == "nin" else phi)([features, scores])
    return _classified("feature_attention", s, embedding, pooled, features)


def _forward_block(s: EmbeddingSettings, x: Tensor) -> tuple[Tensor, Tensor]:
    """The FWD block of fig. 2c: `x'` -> `(F(B), f(x'))`."""
    framewise = s.classes()(x)
    return AttentionPooling("sigmoid")([framewise, s.class_scores()(x)]), framewise


def _classified(name: str, s: EmbeddingSettings, embedding: Tensor, pooled: Tensor, features: Tensor) -> keras.Model:
    """BatchNorm, ReLU, Dropout and the classes, of the pooled features and of each segment's."""
    network = [*s.activation(), s.classes()]
    return _model(name, embedding, apply(network, pooled), apply(network, features))


def _pool(pooling: str, allowed: tuple[str, ...], x: Tensor) -> Tensor:
    if pooling not in allowed:
        raise ValueError(f"`pooling` must be one of {', '.join(allowed)}; received {pooling!r}")
    return POOLINGS[pooling](x)


def _model(name: str, embedding: Tensor, clipwise: Tensor, framewise: Tensor) -> keras.Model:
    return keras.Model(embedding, {"clipwise": clipwise, "framewise": framewise}, name=name)
