"""All systems of paper 1: equal to the formulas in float64 NumPy; shapes, masks, ranges, saving and sizes."""

import re
from functools import partial

import keras
import numpy as np
import pytest

from checks import (
    check_batch_equals_items,
    check_layer_saves_exactly,
    check_masked_padding_changes_nothing,
    compute_gradients,
    compute_outputs,
    same_on_all_backends,
)
from kerastag.models import embedding_models as systems
from kerastag.training.outputs import select_training_outputs

RANDOM = np.random.default_rng(0)
CLASSES, UNITS = 5, 6
SMALL = {"num_classes": CLASSES, "num_features": 7, "units": UNITS}
X = RANDOM.uniform(-1, 1, (4, 6, 7)).astype("float32")
MASK = np.arange(6) < np.array([6, 1, 3, 5])[:, None]
PADDED = np.where(MASK[..., None], X, 0).astype("float32")

BUILDERS = {
    "instance_average": lambda **s: systems.instance_space(pooling="average", **s),
    "instance_max": lambda **s: systems.instance_space(pooling="max", **s),
    "es_average": lambda **s: systems.embedded_space(pooling="average", **s),
    "es_max": lambda **s: systems.embedded_space(pooling="max", **s),
    "es_min": lambda **s: systems.embedded_space(pooling="min", **s),
    "es_max_min": lambda **s: systems.embedded_space(pooling="max_min", **s),
    "jdc": systems.jdc,
    "self_attention": systems.self_attention,
    "decision_attention": systems.decision_attention,
    "multi_attention": systems.multi_attention,
    "feature_average": lambda **s: systems.feature_pooling(pooling="average", **s),
    "feature_max": lambda **s: systems.feature_pooling(pooling="max", **s),
    **{f"feature_{phi}": partial(systems.feature_attention, phi=phi) for phi in systems.PHI_NAMES},
    "feature_and_pooling": partial(systems.feature_attention, with_pooling=True),
}
every = pytest.mark.parametrize("name", BUILDERS)


def set_random_weights(model):
    """Set random weights, including those that are constant before training."""
    random = np.random.default_rng(1)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 2, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(random.normal(0, 0.5, weight.shape))
        else:
            weight.assign(random.normal(0, 1.5 / np.sqrt(weight.shape[0]), weight.shape))
    return model


@pytest.fixture(scope="module")
def models():
    """Build one small model of every system."""
    return {name: set_random_weights(build(**SMALL)) for name, build in BUILDERS.items()}


class Reader:
    """Layers of a model in float64, in the order of their creation, which is the number in their names."""

    def __init__(self, model):
        # The pooled embeddings have layers with other names, which come last.
        created = sorted(model.layers, key=lambda layer: int((re.findall(r"_(\d+)$", layer.name) or [0])[0]))
        created.sort(key=lambda layer: layer.name.startswith(("average_", "maximum_")))
        self._dense = [layer for layer in created if isinstance(layer, keras.layers.Dense)]
        self._norms = [layer for layer in created if type(layer).__name__ == "MaskedBatchNormalization"]

    def next_dense(self, ins, outs):
        """Return the next dense layer with these numbers of inputs and outputs, without its activation."""
        place = next(i for i, layer in enumerate(self._dense) if layer.kernel.shape == (ins, outs))
        kernel, *bias = (np.asarray(w, np.float64) for w in self._dense.pop(place).get_weights())
        return lambda x: x @ kernel + (bias[0] if bias else 0)

    def dense(self, x, outs):
        return self.next_dense(x.shape[-1], outs)(x)

    def norm(self, x):
        gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in self._norms.pop(0).get_weights())
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    def hidden(self, x, depth=3):
        outputs = [x]
        for _ in range(depth):
            outputs.append(np.maximum(self.norm(self.dense(outputs[-1], UNITS)), 0))
        return outputs

    def done(self):
        assert not self._dense
        assert not self._norms


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def attend(values, scores, phi=sigmoid):
    weights = phi(scores) + 1e-7
    return (weights / weights.sum(axis=0) * values).sum(axis=0)


# The systems as in the paper, from one clip of valid segments x (segments, features) to clipwise and framewise.


def instance_average(r, x):
    framewise = sigmoid(r.dense(r.hidden(r.norm(x))[-1], CLASSES))
    return framewise.mean(axis=0), framewise  # equation 10


def instance_max(r, x):
    framewise = sigmoid(r.dense(r.hidden(r.norm(x))[-1], CLASSES))
    return framewise.max(axis=0), framewise  # equation 9


def embedded(pool):
    def forward(r, x):
        both = np.vstack([pool(x), *(pool(one[None]) for one in x)])  # the clip, then each segment alone
        outputs = sigmoid(r.dense(r.hidden(r.norm(both))[-1], CLASSES))  # equation 13
        return outputs[0], outputs[1:]

    return forward


def jdc(r, x):
    x = r.norm(x)
    framewise = sigmoid(r.dense(r.hidden(x)[-1], CLASSES))
    return attend(framewise, r.dense(r.hidden(x)[-1], CLASSES)), framewise


def self_attention(r, x):
    framewise = sigmoid(r.dense(r.hidden(r.norm(x))[-1], CLASSES))
    return attend(framewise, r.dense(framewise, CLASSES)), framewise


def decision_attention(r, x):
    hidden = r.hidden(r.norm(x))[-1]
    framewise = sigmoid(r.dense(hidden, CLASSES))
    return attend(framewise, r.dense(hidden, CLASSES)), framewise  # equations 16 to 19


def multi_attention(r, x):
    *_, first, second = r.hidden(r.norm(x))
    levels = []
    for hidden in (first, second):
        framewise = sigmoid(r.dense(hidden, CLASSES))
        levels.append((attend(framewise, r.dense(hidden, CLASSES)), framewise))
    (clip1, frame1), (clip2, frame2) = levels
    both = np.vstack([np.append(clip1, clip2), np.hstack([frame1, frame2])])
    outputs = sigmoid(r.dense(both, CLASSES))  # equation 6
    return outputs[0], outputs[1:]


def feature_level(pool, u_is_first=False):
    def forward(r, x):
        u = r.next_dense(UNITS, UNITS) if u_is_first else None
        hidden = r.hidden(r.norm(x))[-1]
        features = u(hidden) if u else r.dense(hidden, UNITS)
        both = np.vstack([pool(r, hidden, features), features])
        outputs = sigmoid(r.dense(np.maximum(r.norm(both), 0), CLASSES))
        return outputs[0], outputs[1:]

    return forward


def make_attention(phi):
    return lambda r, hidden, features: attend(features, r.dense(hidden, UNITS), phi)


def network_in_network(r, hidden, features):
    scores = r.dense(hidden, UNITS)
    outer, inner = r.next_dense(UNITS, UNITS), r.next_dense(UNITS, UNITS)
    return attend(features, outer(np.maximum(inner(scores), 0)))  # equation 29


def attention_and_pooling(r, x):
    x = r.norm(x)
    hidden = r.hidden(x)[-1]
    features = r.dense(hidden, UNITS)
    attended = np.vstack([attend(features, r.dense(hidden, UNITS)), features])
    parts = [np.maximum(r.norm(attended), 0)]
    for pool in (np.mean, np.max):
        z = r.norm(np.vstack([pool(x, axis=0), x]))
        centered = z - z.mean(axis=1, keepdims=True)
        parts.append(centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-6))
    outputs = sigmoid(r.dense(np.hstack(parts), CLASSES))
    return outputs[0], outputs[1:]


IN_NUMPY = {
    "instance_average": instance_average,
    "instance_max": instance_max,
    "es_average": embedded(lambda x: x.mean(axis=0)),
    "es_max": embedded(lambda x: x.max(axis=0)),
    "es_min": embedded(lambda x: x.min(axis=0)),
    "es_max_min": embedded(lambda x: np.append(x.max(axis=0), x.min(axis=0))),
    "jdc": jdc,
    "self_attention": self_attention,
    "decision_attention": decision_attention,
    "multi_attention": multi_attention,
    "feature_average": feature_level(lambda r, hidden, features: features.mean(axis=0), u_is_first=True),
    "feature_max": feature_level(lambda r, hidden, features: features.max(axis=0), u_is_first=True),
    "feature_relu": feature_level(make_attention(lambda z: np.maximum(z, 0))),
    "feature_exp": feature_level(make_attention(lambda z: np.exp(z - z.max(axis=0)))),
    "feature_sigmoid": feature_level(make_attention(sigmoid)),
    "feature_softmax": feature_level(make_attention(lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))),
    "feature_nin": feature_level(network_in_network),
    "feature_and_pooling": attention_and_pooling,
}


@every
def test_the_outputs_equal_the_paper_in_numpy(models, name):
    got = compute_outputs(models[name], PADDED)
    for clip, valid in enumerate(MASK):
        reader = Reader(models[name])
        clipwise, framewise = IN_NUMPY[name](reader, X[clip, valid].astype(np.float64))
        reader.done()
        np.testing.assert_allclose(got["clipwise"][clip], clipwise, atol=1e-5, rtol=0)
        np.testing.assert_allclose(got["framewise"][clip][valid], framewise, atol=1e-5, rtol=0)


@every
@same_on_all_backends
def test_padding_and_batches_change_nothing(models, name):
    check_masked_padding_changes_nothing(models[name], X[:3], MASK[:3])
    check_batch_equals_items(models[name], PADDED[:2])


# These have every layer and every way to connect them.
SAVED = ("instance_max", "es_max_min", "self_attention", "multi_attention", "feature_average", "feature_nin")


@pytest.mark.parametrize(
    "name", [name if name in SAVED else pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS]
)
def test_saving_is_exact(models, name):
    check_layer_saves_exactly(models[name], PADDED)


@every
@same_on_all_backends
def test_one_segment_alone_is_its_clip_and_probabilities_are_in_range(models, name):
    outputs = compute_outputs(models[name], PADDED)
    for output in outputs.values():
        assert output.dtype == np.float32
        assert 0 <= output.min() < output.max() <= 1
    alone = compute_outputs(models[name], X[:, :1])
    np.testing.assert_allclose(alone["framewise"][:, 0], alone["clipwise"], atol=1e-5)
    # The prediction of a segment does not depend on the other segments.
    np.testing.assert_allclose(alone["framewise"][:, 0], outputs["framewise"][:, 0], atol=1e-5)


@every
def test_clips_of_padding_alone_stay_finite_in_prediction_and_in_training(models, name):
    padded = PADDED.copy()
    padded[2] = 0
    outputs = compute_outputs(models[name], padded)
    for output in outputs.values():
        assert np.isfinite(output).all()
    np.testing.assert_allclose(outputs["clipwise"][0], compute_outputs(models[name], PADDED)["clipwise"][0], atol=1e-6)
    weights = models[name].get_weights()
    (gradient,) = compute_gradients(lambda x: models[name](x, training=True)["clipwise"], padded)
    models[name].set_weights(weights)  # with the averages from before
    assert np.isfinite(gradient).all()


@every
@same_on_all_backends
def test_any_depth_and_size_has_its_shapes_its_weights_and_its_dropout(models, name):
    """The sizes follow from the equations."""
    assert models[name].count_params() == count_weights(name, 7, CLASSES, UNITS, 3)
    assert list_dropout_rates(models[name]) == [0.5] * count_dropout_layers(name, 3)
    assert not any(type(layer).__name__ == "Dropout" for layer in models[name].layers)
    for depth in (2,) if name == "multi_attention" else (0, 1):
        model = BUILDERS[name](num_classes=3 + depth, num_features=2 + depth, units=5, depth=depth, dropout=0.2)
        assert model.input_shape == (None, None, 2 + depth)
        assert {key: tensor.shape for key, tensor in model.output.items()} == {
            "clipwise": (None, 3 + depth),
            "framewise": (None, None, 3 + depth),
        }
        assert model.count_params() == count_weights(name, 2 + depth, 3 + depth, 5, depth)
        assert list_dropout_rates(model) == [0.2] * count_dropout_layers(name, depth)
    outputs = compute_outputs(model, np.ones((2, 1 + depth, 2 + depth), "float32"))
    assert outputs["clipwise"].shape == (2, 3 + depth)
    assert outputs["framewise"].shape == (2, 1 + depth, 3 + depth)


def list_dropout_rates(model):
    kinds = {"HalfDropout": lambda layer: 0.5, "Dropout": lambda layer: layer.rate}
    return [kinds[type(layer).__name__](layer) for layer in model.layers if type(layer).__name__ in kinds]


def count_dropout_layers(name, depth):
    """Count one layer per hidden block, of which the feature-level systems have one more, after the pooling."""
    return 2 * depth if name == "jdc" else depth + name.startswith("feature_")


def count_weights(name, features, classes, units, depth):
    """Count the weights of a system, moving averages included, from its equations."""
    first = 2 * features if name == "es_max_min" else features
    norm = 4  # gamma, beta, mean, variance
    blocks = sum((first if i == 0 else units) * units + norm * units for i in range(depth))
    last = units if depth else first
    head = last * classes + classes
    square = units * units + units
    own = {
        "jdc": head + blocks + head,
        "self_attention": head + classes * classes + classes,
        "decision_attention": 2 * head,
        "multi_attention": 4 * head + 2 * classes * classes + classes,
    }
    if name.startswith("feature_"):
        # u is linear: the normalization after the pooling takes a bias away.
        own[name] = last * units + norm * units + units * classes + classes
        if name not in ("feature_average", "feature_max"):
            own[name] += last * units + units
        if name == "feature_nin":
            own[name] += 2 * square
        if name == "feature_and_pooling":
            own[name] += 2 * (norm * first + first * classes)
    return norm * first + blocks + own.get(name, head)


@same_on_all_backends
def test_the_published_sizes():
    model = systems.feature_attention()
    assert model.count_params() == count_weights("feature_sigmoid", 128, 527, 1024, 3) == 4_883_471
    without = systems.feature_attention(normalize_input=False, **SMALL)
    assert without.count_params() == count_weights("feature_sigmoid", 7, 5, 6, 3) - 4 * 7


def test_the_training_model_has_the_clip_output_and_shares_the_weights(models):
    whole = models["feature_sigmoid"]
    training = select_training_outputs(whole)
    np.testing.assert_array_equal(compute_outputs(training, PADDED)["0"], compute_outputs(whole, PADDED)["clipwise"])
    assert {id(w) for w in training.weights} == {id(w) for w in whole.weights}


@pytest.mark.parametrize("name", ["jdc", "multi_attention", "es_max_min", "feature_exp", "feature_softmax"])
@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [pytest.param("mixed_bfloat16", 0.06, marks=pytest.mark.slow), ("mixed_float16", 0.01)],
)
def test_half_precision_is_close_and_gives_float32(models, name, policy, tolerance):
    keras.config.set_dtype_policy(policy)
    half = BUILDERS[name](**SMALL)
    half.set_weights(models[name].get_weights())
    for key, output in compute_outputs(half, PADDED).items():
        assert output.dtype == np.float32
        expected = compute_outputs(models[name], PADDED)[key]
        valid = MASK if key == "framewise" else slice(None)
        np.testing.assert_allclose(output[valid], expected[valid], atol=tolerance)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: systems.instance_space(pooling="min"), "`pooling` must be one of average, max; received: 'min'"),
        (
            lambda: systems.embedded_space(pooling="sum"),
            "`pooling` must be one of average, max, min, max_min; received: 'sum'",
        ),
        (lambda: systems.feature_pooling(pooling="min"), "`pooling` must be one of average, max; received: 'min'"),
        (lambda: systems.feature_attention(phi="tanh"), "`phi` must be one of relu, .*nin; received: 'tanh'"),
        (lambda: systems.jdc(num_classes=0), "`num_classes` must be an integer of at least 1; received: 0"),
        (lambda: systems.jdc(num_features=0), "`num_features` must be an integer of at least 1; received: 0"),
        (lambda: systems.jdc(units=0), "`units` must be an integer of at least 1; received: 0"),
        (lambda: systems.jdc(depth=-1), "`depth` must be an integer of at least 0; received: -1"),
        (lambda: systems.multi_attention(depth=1), "`depth` must be an integer of at least 2; received: 1"),
        (lambda: systems.jdc(dropout=1.0), r"`dropout` must be in \[0, 1\); received: 1.0"),
    ],
)
def test_arguments_outside_their_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
