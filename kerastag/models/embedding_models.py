"""The systems of Kong et al., "Weakly labelled AudioSet tagging with attention neural networks", 2019.

A clip is a bag `B` of segments; of each segment there is an embedding `x`, of each clip there are labels. Every model
takes the embeddings, shape `(batch, segments, num_features)`, and predicts a dict of probabilities:

- `clipwise`, shape `(batch, num_classes)`: `F(B)`, the classes of the clip;
- `framewise`, shape `(batch, segments, num_classes)`: what `F` is for a clip that consists of this segment alone.

A segment of zeros is padding. It is masked, does not change `clipwise`, and its row of `framewise` has no meaning.

All builders have these arguments, with the defaults of the paper; values outside their range raise a ValueError:

- `num_classes`: Number of classes, `K`, at least 1.
- `num_features`: Number of features in an embedding, `M`, at least 1.
- `units`: Width of the hidden blocks and, in the feature-level systems, of the pooled vector, `J`, at least 1.
- `depth`: Number of hidden blocks `f_FC`, at least 0. A block is dense, batch normalization, ReLU, dropout.
- `dropout`: Share of the units that dropout sets to zero in training, in [0, 1).
- `normalize_input`: Whether batch normalization comes first, as in the authors' PyTorch code.

>>> model = feature_attention(num_classes=10, units=32, phi="exp")
>>> model.output["clipwise"].shape, model.output["framewise"].shape
((None, 10), (None, None, 10))
"""

from typing import Any

import keras
from keras import layers

from kerastag.layers._arguments import check_choice, check_integer, check_rate
from kerastag.layers.attention_pooling import PHI, AttentionPooling
from kerastag.layers.half_dropout import HalfDropout
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.layers.segment_pooling import AveragePooling, MaxPooling, MinPooling

POOLINGS = {"average": [AveragePooling], "max": [MaxPooling], "min": [MinPooling], "max_min": [MaxPooling, MinPooling]}
PHI_NAMES = (*PHI, "nin")


def instance_space(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
    pooling: str = "average",
) -> keras.Model:
    """Build a classifier of segments whose probabilities are pooled: `F(B) = pool over x in B of f(x)`, eq. 7.

    `pooling` is `"average"` (collective assumption, eq. 10) or `"max"` (standard assumption, eq. 9). The average,
    trained on single segments, is the segment-based system (eq. 1) and, with `depth=1`, Google's baseline.
    """
    embedding, x = _build_input(num_features, normalize_input)
    framewise = _build_classifier(num_classes)(_apply_hidden_blocks(x, units, depth, dropout)[-1])
    clipwise = _pool(framewise, pooling, ("average", "max"))
    return _build_model("instance_space", embedding, clipwise, framewise)


def embedded_space(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
    pooling: str = "average",
) -> keras.Model:
    """Build a classifier of the pooled embedding: `F(B) = g(h)` with `h = pool over x in B of x`, eq. 13 to 15.

    `pooling` is `"average"`, `"max"`, `"min"` or `"max_min"`, which concatenates the maximum and the minimum.
    """
    embedding, x = _build_input(num_features, normalize_input=False)
    pooled = _pool(x, pooling, tuple(POOLINGS))
    segments = layers.Concatenate()([embedding, embedding]) if pooling == "max_min" else embedding
    network = [MaskedBatchNormalization()] if normalize_input else []
    for _ in range(check_integer("depth", depth, 0)):
        network += _build_hidden_block(check_integer("units", units), dropout)
    network.append(_build_classifier(num_classes))
    return _build_model("embedded_space", embedding, _apply(network, pooled), _apply(network, segments))


def jdc(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
) -> keras.Model:
    """Build the joint detection and classification model of fig. 2a: `F(B) = sum over x in B of p(x) f(x)`.

    The attention `p` has hidden blocks of its own.
    """
    embedding, x = _build_input(num_features, normalize_input)
    framewise = _build_classifier(num_classes)(_apply_hidden_blocks(x, units, depth, dropout)[-1])
    scores = layers.Dense(num_classes)(_apply_hidden_blocks(x, units, depth, dropout)[-1])
    return _build_model("jdc", embedding, AttentionPooling("sigmoid")([framewise, scores]), framewise)


def self_attention(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
) -> keras.Model:
    """Build the self-attention model of fig. 2b: `F(B) = sum over x in B of p(f(x)) f(x)`.

    The figure gives no formula for the attention; here `p` is the normalized `sigmoid(U f(x) + c)`.
    """
    embedding, x = _build_input(num_features, normalize_input)
    framewise = _build_classifier(num_classes)(_apply_hidden_blocks(x, units, depth, dropout)[-1])
    scores = layers.Dense(num_classes)(framewise)
    return _build_model("self_attention", embedding, AttentionPooling("sigmoid")([framewise, scores]), framewise)


def decision_attention(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
) -> keras.Model:
    """Build decision-level attention (fig. 2c): `F(B) = sum over x in B of p(x') f(x')`, eq. 16 to 19."""
    embedding, x = _build_input(num_features, normalize_input)
    hidden = _apply_hidden_blocks(x, units, depth, dropout)[-1]
    return _build_model("decision_attention", embedding, *_attend(hidden, num_classes))


def multi_attention(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
) -> keras.Model:
    """Build multi-level attention: `F(B) = g(F1(B), F2(B))`, eq. 6, where `g` is dense with a sigmoid.

    `F1` and `F2` are decision-level attention on the last two hidden blocks, so `depth` must be at least 2.
    """
    check_integer("depth", depth, 2)
    embedding, x = _build_input(num_features, normalize_input)
    levels = [_attend(hidden, num_classes) for hidden in _apply_hidden_blocks(x, units, depth, dropout)[-2:]]
    network = [layers.Concatenate(), _build_classifier(num_classes)]
    clipwise, framewise = (_apply(network, list(outputs)) for outputs in zip(*levels, strict=True))
    return _build_model("multi_attention", embedding, clipwise, framewise)


def feature_pooling(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
    pooling: str = "average",
) -> keras.Model:
    """Build a classifier of pooled features: `F(B) = f(h)` with `h = pool over x in B of u(x)`, eq. 21 and 23.

    `pooling` is `"average"` or `"max"`; `u` is that of `feature_attention`.
    """
    embedding, x = _build_input(num_features, normalize_input)
    features = layers.Dense(units, use_bias=False)(_apply_hidden_blocks(x, units, depth, dropout)[-1])
    network = [*_build_activation(dropout), _build_classifier(num_classes)]
    pooled = _pool(features, pooling, ("average", "max"))
    return _build_model("feature_pooling", embedding, _apply(network, pooled), _apply(network, features))


def feature_attention(
    num_classes: int = 527,
    *,
    num_features: int = 128,
    units: int = 1024,
    depth: int = 3,
    dropout: float = 0.5,
    normalize_input: bool = True,
    phi: str = "sigmoid",
    with_pooling: bool = False,
) -> keras.Model:
    """Build feature-level attention (fig. 3c): `F(B) = f(h)`, `h_j = sum over x in B of q(x)_j u(x)_j`, eq. 20 to 24.

    `u` is linear without a bias, which the batch normalization in `f` would cancel. `q` is the normalized `phi` of a
    dense layer, where `phi` is `"relu"`, `"exp"`, `"sigmoid"`, `"softmax"` (eq. 25 to 28) or `"nin"`, a network in
    network of two layers (eq. 29).

    With `with_pooling`, which is not in the paper, the last layer of `f` takes more features than those of `h`: the
    average and the maximum over the segments of the normalized embeddings. Both are normalized again, each feature over
    the clips, and then all features of a clip (layer normalization), which limits the logits of unusual clips.
    """
    check_choice("phi", phi, PHI_NAMES)
    embedding, x = _build_input(num_features, normalize_input)
    hidden = _apply_hidden_blocks(x, units, depth, dropout)[-1]
    features, scores = layers.Dense(units, use_bias=False)(hidden), layers.Dense(units)(hidden)
    if phi == "nin":
        scores = layers.Dense(units)(layers.Dense(units, activation="relu")(scores))
    pooled = AttentionPooling("sigmoid" if phi == "nin" else phi)([features, scores])
    network = _build_activation(dropout)
    of_clip, of_segments = _apply(network, pooled), _apply(network, features)
    if with_pooling:
        features_of_clip, features_of_segments = [of_clip], [of_segments]
        for name, pooling in (("average", AveragePooling), ("maximum", MaxPooling)):
            network = [
                MaskedBatchNormalization(name=f"{name}_normalization"),
                layers.LayerNormalization(epsilon=1e-6, center=False, scale=False, name=f"{name}_features"),
            ]
            features_of_clip.append(_apply(network, pooling(name=name)(x)))
            features_of_segments.append(_apply(network, x))
        of_clip = layers.Concatenate(name="clip_features")(features_of_clip)
        of_segments = layers.Concatenate(name="segment_features")(features_of_segments)
    classifier = _build_classifier(num_classes)
    return _build_model("feature_attention", embedding, classifier(of_clip), classifier(of_segments))


def _build_input(num_features: int, normalize_input: bool) -> tuple[Any, Any]:
    """Return the input of a model, and the same with padding masked and, if asked for, normalized."""
    embedding = keras.Input((None, check_integer("num_features", num_features)), name="embedding")
    x = layers.Masking(0.0, name="padding")(embedding)
    return embedding, MaskedBatchNormalization()(x) if normalize_input else x


def _apply_hidden_blocks(x: Any, units: int, depth: int, dropout: float) -> list[Any]:
    """Return `x` and the output of every block of `x' = f_FC(x)`, eq. 17."""
    check_integer("units", units)
    outputs = [x]
    for _ in range(check_integer("depth", depth, 0)):
        outputs.append(_apply(_build_hidden_block(units, dropout), outputs[-1]))
    return outputs


def _build_hidden_block(units: int, dropout: float) -> list[keras.layers.Layer]:
    return [layers.Dense(units, use_bias=False), *_build_activation(dropout)]


def _build_activation(dropout: float) -> list[keras.layers.Layer]:
    check_rate("dropout", dropout)
    return [MaskedBatchNormalization(), layers.ReLU(), HalfDropout() if dropout == 0.5 else layers.Dropout(dropout)]


def _build_classifier(num_classes: int) -> keras.layers.Layer:
    """Return the layer `f(x) = sigmoid(W x + b)`, eq. 18."""
    return layers.Dense(check_integer("num_classes", num_classes), activation="sigmoid", dtype="float32")


def _attend(hidden: Any, num_classes: int) -> tuple[Any, Any]:
    """Return `F(B) = sum over x' of p(x') f(x')` and `f(x')` of one hidden block."""
    framewise = _build_classifier(num_classes)(hidden)
    return AttentionPooling("sigmoid")([framewise, layers.Dense(num_classes)(hidden)]), framewise


def _pool(x: Any, pooling: str, choices: tuple[str, ...]) -> Any:
    pooled = [layer()(x) for layer in POOLINGS[check_choice("pooling", pooling, choices)]]
    return pooled[0] if len(pooled) == 1 else layers.Concatenate()(pooled)


def _apply(network: list[keras.layers.Layer], x: Any) -> Any:
    for layer in network:
        x = layer(x)
    return x


def _build_model(name: str, embedding: Any, clipwise: Any, framewise: Any) -> keras.Model:
    return keras.Model(embedding, {"clipwise": clipwise, "framewise": framewise}, name=name)
