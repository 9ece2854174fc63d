"""All backbones: sizes, outputs at any length, precision, backends, copies and training."""

import functools
import json
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from checks import check_batch_equals_items, check_layer_saves_exactly, compute_outputs, randomize_weights, run_python
from kerastag.dsp import FRONT_ENDS
from kerastag.models.backbones import at_sca, cnn10, mn, resnet38, talnet, vggish
from kerastag.models.backbones.backbone import Backbone

WIDTH = 0.0625
# Builder, backbone, log-mel frames per output frame, and channels of the embedding at full width and at WIDTH.
TAGGERS = {
    "cnn10": (cnn10.cnn10, cnn10.BACKBONE, 16, 512, 32),
    "resnet38": (resnet38.resnet38, resnet38.BACKBONE, 32, 2048, 128),
    "talnet": (talnet.talnet, talnet.BACKBONE, 4, 1024, 64),
    "at_sca": (at_sca.at_sca, at_sca.BACKBONE, 16, 512, 32),
    "mn": (mn.mn, mn.BACKBONE, 32, 960, 96),
}
everyone = pytest.mark.parametrize("name", TAGGERS)
# ResNet38 and AT-SCA consist of the blocks of CNN10 and of an attention that has tests of its own.
few = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("resnet38", "at_sca"))) for name in TAGGERS]
)


def build_small(name, /, **arguments):
    return TAGGERS[name][0](**{"num_classes": 5, "width": WIDTH, **arguments})


@functools.cache
def get_shared(name):
    """Return one model with random weights for all tests that do not change it, because building it is slow."""
    return randomize_weights(build_small(name))


class Silence(keras.layers.Layer):
    """Augmentation that leaves nothing."""

    def call(self, inputs, training=False):
        return inputs * 0 if training else inputs


@functools.cache
def build_augmented(name):
    return build_small(name, input="waveform", augment=Silence())


def get_augmented(name):
    """Return a model with waveform input and augmentation, with the weights of the shared model."""
    model = build_augmented(name)
    model.set_weights(get_shared(name).get_weights())
    return model


def make_waveforms(name, batch=2):
    sample_rate = FRONT_ENDS[TAGGERS[name][1].front_end].sample_rate
    return np.random.default_rng(0).uniform(-0.5, 0.5, (batch, sample_rate)).astype(np.float32)


def make_log_mel(name, frames=40, batch=2):
    bins = FRONT_ENDS[TAGGERS[name][1].front_end].num_mel_bins
    return np.random.default_rng(0).normal(size=(batch, frames, bins)).astype(np.float32)


@pytest.mark.parametrize(
    ("build", "arguments", "published"),
    [
        (cnn10.cnn10, {}, 5_219_279),
        (resnet38.resnet38, {}, 73_783_247),
        pytest.param(mn.mn, {"width": 0.4}, 983_599, marks=pytest.mark.slow),
        (mn.mn, {"width": 1.0}, 4_876_831),
        (vggish.vggish, {}, 72_141_184),
    ],
)
def test_the_number_of_parameters_at_full_width_is_the_published_one(build, arguments, published, monkeypatch):
    def make_zeros(self, shape, dtype=None):
        return np.zeros(shape, "float32")

    for initializer in (keras.initializers.VarianceScaling, keras.initializers.Orthogonal):
        monkeypatch.setattr(initializer, "__call__", make_zeros)  # millions of random weights take long
    assert sum(int(np.prod(weight.shape)) for weight in build(**arguments).trainable_weights) == published


@everyone
@pytest.mark.parametrize("frames", [32, 63, 101])
def test_outputs_have_their_shapes_at_any_length(name, frames):
    _, backbone, step, _, channels = TAGGERS[name]
    outputs = compute_outputs(get_shared(name), make_log_mel(name, frames))
    output_frames = -(-frames // step) if name == "mn" else frames // step
    assert {key: value.shape for key, value in outputs.items()} == {
        "clipwise": (2, 5),
        "framewise": (2, output_frames, 5),
        "embedding": (2, channels),
    }
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in outputs.values())
    assert ((outputs["framewise"] > 0) & (outputs["framewise"] < 1)).all()
    assert backbone.frames_per_output == step


@everyone
def test_batch_equals_items(name):
    check_batch_equals_items(get_shared(name), make_log_mel(name), atol=1e-4, rtol=1e-4)


@few
def test_saving_is_exact(name):
    check_layer_saves_exactly(get_shared(name), make_log_mel(name))


@everyone
def test_waveform_input_equals_the_front_end_and_log_mel_input(name):
    waveform = make_waveforms(name, batch=1)
    front_end = FRONT_ENDS[TAGGERS[name][1].front_end]
    expected = compute_outputs(get_shared(name), front_end.compute_log_mel(waveform))
    got = compute_outputs(get_augmented(name), waveform)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-3, atol=1e-3, err_msg=key)


@everyone
def test_clips_and_frames_share_the_classifier(name):
    """A change of the classifier changes the predictions of the clip and of every frame."""
    model = get_shared(name)
    before = compute_outputs(model, make_log_mel(name))
    layer = next(layer for layer in model.layers[::-1] if isinstance(layer, keras.layers.Dense) and layer.units == 5)
    bias = layer.bias.numpy()
    layer.bias.assign(bias + np.array([3, 0, 0, 0, 0], np.float32))
    after = compute_outputs(model, make_log_mel(name))
    layer.bias.assign(bias)
    for key in ("clipwise", "framewise"):
        assert (after[key][..., 0] > before[key][..., 0]).all()
        np.testing.assert_array_equal(after[key][..., 1:], before[key][..., 1:])
    np.testing.assert_array_equal(after["embedding"], before["embedding"])


@few
def test_half_precision_keeps_front_end_pooling_and_probabilities_in_float32(name):
    exact = get_shared(name)
    expected = compute_outputs(exact, make_log_mel(name))
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = build_small(name, input="waveform")
    for layer in ("front_end", "clipwise", "framewise", "embedding"):
        assert half.get_layer(layer).compute_dtype == "float32", layer
    assert {layer.compute_dtype for layer in half.layers if isinstance(layer, keras.layers.Conv2D)} == {"bfloat16"}
    half.set_weights(exact.get_weights())
    body = keras.Model(half.get_layer("front_end").output, half.output)
    got = compute_outputs(body, make_log_mel(name))
    for key, value in expected.items():
        assert got[key].dtype == np.float32
        assert np.abs(got[key] - value).mean() < 0.05 * max(1, np.abs(value).mean()), key
    assert (got["clipwise"] != got["clipwise"].astype(np.float16)).any()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_jax_agrees(tmp_path):
    """The three backbones contain every layer; CNN10 and ResNet38 have no others."""
    expected, systems = {}, ("talnet", "at_sca", "mn")
    for name in systems:
        model = get_shared(name)
        model.save(tmp_path / f"{name}.keras")
        expected[name] = compute_outputs(model, make_log_mel(name))
        np.save(tmp_path / f"{name}.npy", make_log_mel(name))
    code = f"""
import keras, numpy as np, json
import kerastag.models.backbones.vggish, kerastag.models.backbones.talnet, kerastag.models.backbones.at_sca
zeros = lambda self, shape, dtype=None: np.zeros(shape, "float32")  # random weights are slow, and soon replaced
keras.initializers.VarianceScaling.__call__ = keras.initializers.Orthogonal.__call__ = zeros
folder = {str(tmp_path)!r}
for name in {json.dumps(systems)}:
    model = keras.saving.load_model(f"{{folder}}/{{name}}.keras")
    outputs = model.predict(np.load(f"{{folder}}/{{name}}.npy"), verbose=0)
    np.savez(f"{{folder}}/{{name}}.npz", **{{key: np.asarray(value) for key, value in outputs.items()}})
print(keras.backend.backend())
"""
    assert (
        run_python(code, env={"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}, timeout=300)
        .strip()
        .endswith("jax")
    )
    for name, outputs in expected.items():
        got = np.load(tmp_path / f"{name}.npz")
        for key, value in outputs.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-3, atol=1e-4, err_msg=f"{name} {key}")


@pytest.mark.slow
@everyone
def test_two_copies_in_one_model_do_not_share_weights(name):
    inputs = keras.Input((None, make_log_mel(name).shape[-1]))
    streams = [build_small(name, name=stream) for stream in ("global_stream", "local_stream")]
    model = keras.Model(inputs, {stream.name: stream(inputs)["clipwise"] for stream in streams})
    ids = [{id(weight) for weight in stream.weights} for stream in streams]
    assert not ids[0] & ids[1]
    streams[0].trainable = False
    assert {id(weight) for weight in model.trainable_weights} <= ids[1]
    check_layer_saves_exactly(randomize_weights(model), make_log_mel(name))


@pytest.mark.parametrize("name", ["talnet", "at_sca", pytest.param("mn", marks=pytest.mark.slow)])
def test_every_trainable_weight_learns(name):
    """A few steps change every trainable weight and lower the loss."""
    model = build_small(name, num_classes=3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    trained = keras.Model(model.input, model.output["clipwise"])
    before = [weight.numpy() for weight in trained.trainable_weights]
    trained.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy", run_eagerly=True)
    x, y = make_log_mel(name, frames=32, batch=4), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    losses = [float(trained.train_on_batch(x, y)) for _ in range(3)]
    assert losses[-1] < losses[0]
    unchanged = [
        w.path for w, old in zip(trained.trainable_weights, before, strict=True) if np.array_equal(w.numpy(), old)
    ]
    assert not unchanged


@everyone
def test_augmentation_comes_before_the_convolutions_and_acts_in_training_only(name):
    augmented, waveforms = get_augmented(name), make_waveforms(name) * np.array([[1], [1e-3]], np.float32)
    for layer in augmented.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    predictions = compute_outputs(augmented, waveforms)["clipwise"]
    assert np.abs(predictions[0] - predictions[1]).max() > 2e-5
    silenced = keras.ops.convert_to_numpy(augmented(waveforms, training=True)["clipwise"])
    np.testing.assert_allclose(silenced[0], silenced[1], atol=1e-6)


@everyone
def test_arguments_outside_their_range_are_refused(name):
    cases = [
        ({"num_classes": 0}, "`num_classes` must be an integer of at least 1; received: 0"),
        ({"width": 0}, r"`width` must be a number in \(0, 100\]; received: 0"),
        ({"input": "audio"}, "`input` must be one of log_mel, waveform; received: 'audio'"),
    ]
    if name not in ("resnet38", "at_sca"):  # which have the head of CNN10
        cases.append(({"dropout": 1.0}, r"`dropout` must be in \[0, 1\); received: 1\.0"))
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            build_small(name, **arguments)


def test_features_and_head_can_be_built_separately():
    inputs = keras.Input((None, 64))
    features = cnn10.BACKBONE.build_features(inputs, width=WIDTH)
    assert features.shape == (None, None, 32)
    outputs = cnn10.BACKBONE.build_head(features, 5)
    assert outputs["framewise"].shape == (None, None, 5)
    assert {name: backbone.seconds_per_output for name, (_, backbone, *_) in TAGGERS.items()} == {
        "cnn10": 0.16,
        "resnet38": 0.32,
        "talnet": 0.1,
        "at_sca": 0.16,
        "mn": 0.32,
    }
    assert isinstance(cnn10.BACKBONE, Backbone)


@pytest.mark.parametrize(
    "name", ["cnn10", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet38", "at_sca"))]
)
def test_the_last_layer_takes_the_clip_without_dropout_and_frames_with_it(name):
    """In training, as in the public code of PANNs and GL-AT; batch normalization and blocks are not random here."""
    rates = {"residual_dropout": 0.0} if name == "resnet38" else {}
    model = build_small(name, dropout=0.5, block_dropout=0.0, **rates)
    layers = {"pooled": "maximum_and_mean", "features": "features", "dropped": "drop_hidden"}
    inspected = {key: model.get_layer(layer).output for key, layer in layers.items()} | model.output
    inspected["hidden"] = model.get_layer("drop_hidden").input
    outputs = keras.Model(model.input, inspected)(make_log_mel(name), training=True)
    outputs = {key: keras.ops.convert_to_numpy(x) for key, x in outputs.items()}
    (w1, b1), (w2, b2) = (model.get_layer(layer).get_weights() for layer in ("fc1", "fc_audioset"))

    def classify(hidden):
        return 1 / (1 + np.exp(-hidden @ w2 - b2))

    np.testing.assert_allclose(outputs["clipwise"], classify(outputs["embedding"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["framewise"], classify(outputs["dropped"]), rtol=1e-4, atol=1e-5)
    active = outputs["hidden"] > 0
    assert set(np.round(outputs["dropped"][active] / outputs["hidden"][active], 4)) == {0.0, 2.0}
    for key, hidden in (("pooled", outputs["embedding"]), ("features", outputs["hidden"])):
        assert np.abs(hidden - np.maximum(outputs[key] @ w1 + b1, 0)).max() > 1e-3, f"no dropout after {key}"


def test_talnet_pools_frames_by_linear_softmax():
    outputs = compute_outputs(get_shared("talnet"), make_log_mel("talnet"))
    p = outputs["framewise"].astype(float)
    np.testing.assert_allclose(outputs["clipwise"], (p**2).sum(axis=1) / p.sum(axis=1), rtol=1e-5)


def test_mn_rounds_channels_to_multiples_of_eight_and_down_by_at_most_a_tenth():
    assert [mn.round_channels(channels) for channels in (1, 6.4, 11, 12, 25.6, 28.8, 68, 160)] == [
        8,
        8,
        16,
        16,
        24,
        32,
        72,
        160,
    ]
    for channels in range(8, 1000):
        assert mn.round_channels(channels) % 8 == 0
        assert 0.9 * channels <= mn.round_channels(channels) <= channels + 8


def test_vggish_has_one_segment_per_patch():
    model = randomize_weights(vggish.vggish(3, width=WIDTH, postprocess="pca"))
    for frames in (96, 300):
        x = np.random.default_rng(0).normal(size=(2, frames, 64)).astype(np.float32)
        outputs = compute_outputs(model, x)
        assert outputs["segments"].shape == (2, frames // 96, 128)
        np.testing.assert_allclose(outputs["embedding"], outputs["segments"].mean(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["clipwise"], outputs["framewise"].mean(axis=1), rtol=1e-5)
    check_layer_saves_exactly(model, x)


def test_vggish_checks_its_arguments():
    with pytest.raises(ValueError, match="`postprocess` must be one of raw, pca, uint8; received: 'int8'"):
        vggish.vggish(width=WIDTH, postprocess="int8")
    with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 1; received: 0"):
        vggish.vggish(0, width=WIDTH)
