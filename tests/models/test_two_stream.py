"""GL-AT: its predictions for every backbone, its training, its export, and its arguments."""

import functools
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from checks import check_batch_equals_items, check_layer_saves_exactly, compute_outputs, randomize_weights, run_python
from kerastag.dsp import FRONT_ENDS
from kerastag.export.tflite import convert_functions
from kerastag.layers.spec_augment import SpecAugment
from kerastag.models import MODELS
from kerastag.models.backbones.cnn10 import cnn10
from kerastag.models.loading import load_model
from kerastag.models.two_stream import BACKBONES, get_backbone, gl_at
from kerastag.recipes._papers import read_paper
from kerastag.training.outputs import select_training_outputs
from kerastag.training.stream_loss import StreamLoss

# Two networks, so that each stream predicts on its own, too.
SMALL = {"num_classes": 4, "width": 0.0625, "num_sub_clips": 3, "sub_clip_seconds": 0.8, "share": "none"}


def build_small(backbone, **arguments):
    return randomize_weights(gl_at(backbone=backbone, **{**SMALL, **arguments}))


# Models for tests that do not depend on particular weights.
get_shared = functools.cache(build_small)


def make_waveforms(sample_rate, seconds=2.0, batch=2):
    rng = np.random.default_rng(0)
    level = np.repeat(rng.uniform(0.01, 0.5, (batch, 10)), int(seconds * sample_rate / 10), axis=1)
    return (level * rng.uniform(-1, 1, level.shape)).astype(np.float32)


def make_log_mel(backbone, **signal):
    front_end = FRONT_ENDS[get_backbone(backbone).front_end]
    return front_end.compute_log_mel(make_waveforms(front_end.sample_rate, **signal))


def pool(x):
    return 0.5 * x.max(axis=1) + 0.5 * x.mean(axis=1)


def predict_in_numpy(model, x, sub_clip_seconds, rate, pool_sub_clips=pool):
    """Combine the predictions of the two streams of a model in NumPy."""
    whole = compute_outputs(model.get_layer("global_stream"), x)
    return select_and_combine(whole, model.get_layer("local_stream"), x, sub_clip_seconds, rate, pool_sub_clips)


def select_and_combine(whole, local_stream, x, sub_clip_seconds, rate, pool_sub_clips=pool):
    """Combine the outputs of the global stream with those of the local one for the sub-clips that these select."""
    frames, length = whole["framewise"].shape[1], round(sub_clip_seconds * rate)
    local, starts, classes = [], [], []
    for clip, probability, over_time in zip(x, whole["clipwise"], whole["framewise"], strict=True):
        best = np.argsort(-probability, kind="stable")[:3]
        centers = (over_time[:, best].argmax(axis=0) + 0.5) * len(clip) / frames
        begin = np.clip(np.floor(centers - length / 2), 0, len(clip) - length).astype(int)
        windows = np.stack([clip[start : start + length] for start in begin])
        local.append(pool_sub_clips(compute_outputs(local_stream, windows)["clipwise"][None])[0])
        starts.append(begin / rate)
        classes.append(best)
    both = pool(np.stack([whole["clipwise"], local], axis=1))
    return {
        "clipwise": both,
        "global": whole["clipwise"],
        "local": np.stack(local),
        "framewise": whole["framewise"],
        "embedding": whole["embedding"],
        "start_seconds": np.stack(starts),
        "classes": np.stack(classes),
    }


@pytest.mark.parametrize(
    "backbone", [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("cnn10", "talnet"))) for name in BACKBONES]
)
def test_the_outputs_equal_the_two_streams_combined_in_numpy(backbone):
    model, x = get_shared(backbone), make_log_mel(backbone)
    got = compute_outputs(model, x)
    expected = predict_in_numpy(model, x, 0.8, FRONT_ENDS[get_backbone(backbone).front_end].frames_per_second)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.ptp(got["local"]) > 1e-3
    assert len(np.unique(got["start_seconds"])) > 1
    weights = [{id(weight) for weight in model.get_layer(f"{s}_stream").weights} for s in ("global", "local")]
    assert not weights[0] & weights[1]


COUPLINGS = [{"share": "classifier"}, {"share": "all", "sub_clip_pooling": "max"}, {"frame_scores": "local"}]


def copy_layers(network, *models):
    """Give every layer of a network the weights of the layer of that name in the first of several models."""
    for layer in network.layers:
        if layer.weights:
            sources = (each for model in models for each in model.layers if each.name == layer.name)
            layer.set_weights(next(sources).get_weights())
    return network


@pytest.mark.parametrize("coupling", COUPLINGS, ids=str)
@pytest.mark.parametrize("backbone", ["cnn10", pytest.param("talnet", marks=pytest.mark.slow)])
def test_coupled_streams_equal_two_networks_combined_in_numpy_and_a_saved_model(backbone, coupling):
    model, x = build_small(backbone, **coupling), make_log_mel(backbone)
    first, second = (MODELS[backbone].build(num_classes=4, width=0.0625) for _ in range(2))
    global_stream = model.get_layer("global_stream")
    # The layers of a classifier that both streams apply are those of the model itself.
    whole = compute_outputs(copy_layers(first, global_stream, model), x)
    if "frame_scores" in coupling:
        whole["framewise"] = compute_outputs(copy_layers(second, model, global_stream), x)["framewise"]
    local = global_stream if coupling.get("share") == "all" else model.get_layer("local_stream")
    pool_sub_clips = (lambda each: each.max(axis=1)) if "sub_clip_pooling" in coupling else pool
    rate = FRONT_ENDS[get_backbone(backbone).front_end].frames_per_second
    expected = select_and_combine(whole, copy_layers(second, local, model), x, 0.8, rate, pool_sub_clips)
    got = compute_outputs(model, x)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    check_layer_saves_exactly(model, x)


def test_streams_share_what_was_asked_for_and_still_do_after_saving(tmp_path):
    alone, x = cnn10(SMALL["num_classes"], width=SMALL["width"]), make_log_mel("cnn10")
    classifier = sum(alone.get_layer(name).count_params() for name in ("fc1", "fc_audioset"))
    sizes = {"none": 2 * alone.count_params(), "classifier": 2 * alone.count_params() - classifier}
    for share, size in {**sizes, "all": alone.count_params()}.items():
        model = build_small("cnn10", share=share)
        model.save(tmp_path / "model.keras")
        loaded = load_model(tmp_path / "model.keras")
        assert (model.count_params(), loaded.count_params()) == (size, size)
        if share == "classifier":
            before = compute_outputs(loaded, x)
            loaded.get_layer("fc_audioset").bias.assign_add([1.0] * 4)
            after = compute_outputs(loaded, x)
            assert all((after[name] > before[name]).all() for name in ("global", "local", "framewise"))
    default = gl_at(**{name: SMALL[name] for name in ("num_classes", "width")}, backbone="cnn10")
    assert default.count_params() == sizes["classifier"]


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS, ids=str)
def test_coupled_streams_start_with_the_initial_weights_and_learn(coupling):
    x, y = make_log_mel("cnn10", batch=4), np.eye(4, dtype=np.float32)
    alone = randomize_weights(cnn10(4, width=0.0625))
    arguments = {**SMALL, "dropout": 0.0, "block_dropout": 0.0, **coupling}
    model = gl_at(backbone="cnn10", initial_weights=alone, **arguments)
    got, expected = compute_outputs(model, x), compute_outputs(alone, x)
    np.testing.assert_allclose(got["global"], expected["clipwise"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["framewise"], expected["framewise"], rtol=1e-5, atol=1e-6)
    before = [weight.numpy() for weight in model.trainable_weights]
    _, losses = fit(model, x, y, steps=4)
    assert losses[-1] < losses[0]
    assert not any(np.array_equal(w, old) for w, old in zip(model.trainable_weights, before, strict=True))


@pytest.mark.slow
def test_frames_are_scored_by_the_local_classifier_of_the_published_code_while_the_global_stream_is_frozen():
    x, y = make_log_mel("cnn10", batch=4), np.eye(4, dtype=np.float32)
    model = build_small("cnn10", freeze_global=True, frame_scores="local")
    before = compute_outputs(model, x)
    fit(model, x, y, steps=2)
    after = compute_outputs(model, x)
    np.testing.assert_array_equal(after["global"], before["global"])
    assert np.abs(after["framewise"] - before["framewise"]).max() > 1e-3


def test_sub_clips_are_pooled_by_their_maximum_on_request():
    model, x = build_small("cnn10", sub_clip_pooling="max"), make_log_mel("cnn10")
    got = compute_outputs(model, x)
    expected = predict_in_numpy(model, x, 0.8, 100, lambda each: each.max(axis=1))
    for name in ("local", "clipwise"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    paper = predict_in_numpy(model, x, 0.8, 100)
    assert (got["local"] - paper["local"]).max() > 1e-3, "both poolings give the same"


def test_the_registry_has_an_entry_for_every_backbone():
    assert set(BACKBONES) == {"talnet", "cnn10", "resnet38", "at_sca", "mn"}
    for backbone in BACKBONES:
        entry = MODELS[f"gl_at_{backbone}"]
        assert entry.front_end == MODELS[backbone].front_end == get_backbone(backbone).front_end
        if backbone != "mn":
            rows = read_paper("paper2").rows
            assert rows[f"gl_at_{backbone}"].published.map > rows[backbone].published.map


@pytest.mark.parametrize("select", ["log_mel", "waveform"])
def test_the_front_end_runs_once_or_once_per_stream(select):
    waveforms = make_waveforms(32_000)
    model, body = get_shared("cnn10", input="waveform", select=select), get_shared("cnn10")
    body.set_weights(model.get_weights())
    got = compute_outputs(model, waveforms)
    expected = compute_outputs(body, FRONT_ENDS["panns"].compute_log_mel(waveforms))
    np.testing.assert_allclose(got["global"], expected["global"], rtol=1e-4, atol=1e-5)
    assert ("local_front_end" in [layer.name for layer in model.layers]) == (select == "waveform")
    if select == "log_mel":
        np.testing.assert_allclose(got["clipwise"], expected["clipwise"], rtol=1e-4, atol=1e-5)
        return
    starts = np.round(got["start_seconds"] * 32_000).astype(int)
    sub_clips = [clip[start : start + 25_600] for clip, row in zip(waveforms, starts, strict=True) for start in row]
    sub_clip_log_mel = FRONT_ENDS["panns"].compute_log_mel(np.stack(sub_clips))
    local = compute_outputs(model.get_layer("local_stream"), sub_clip_log_mel)["clipwise"]
    np.testing.assert_allclose(got["local"], pool(local.reshape(2, 3, 4)), rtol=1e-3, atol=1e-4)


def test_batch_equals_items_and_saving_is_exact():
    model = build_small("cnn10", input="waveform", suppress_radius_seconds=0.5, augment=SpecAugment())
    check_batch_equals_items(model, make_waveforms(32_000), atol=1e-4, rtol=1e-4)
    check_layer_saves_exactly(model, make_waveforms(32_000))


def test_short_clips_are_padded_silence_is_finite_and_nan_is_passed_on():
    model = get_shared("cnn10", input="waveform", select="log_mel")
    short = make_waveforms(32_000, seconds=0.5)
    got = compute_outputs(model, short)
    assert not got["start_seconds"].any()
    windows = np.pad(FRONT_ENDS["panns"].compute_log_mel(short), [(0, 0), (0, 29), (0, 0)])
    each = compute_outputs(model.get_layer("local_stream"), windows)["clipwise"]
    np.testing.assert_allclose(got["local"], each, rtol=1e-4, atol=1e-5)  # all sub-clips are equal
    assert all(np.isfinite(value).all() for value in compute_outputs(model, 0 * short).values())
    broken = compute_outputs(model, np.full_like(short, np.nan))
    assert np.isnan(broken["clipwise"]).all()
    assert not broken["start_seconds"].any()


def fit(model, x, y, steps=6, **compiled):
    trained = select_training_outputs(model)
    trained.compile(keras.optimizers.Adam(1e-2), StreamLoss(), **compiled)
    losses = trained.fit(x, y, epochs=steps, batch_size=len(x), verbose=0).history["loss"]
    return trained, losses


@pytest.mark.slow
def test_both_streams_learn_in_half_precision_and_the_sum_of_their_losses_falls():
    keras.config.set_dtype_policy("mixed_bfloat16")
    x, y = make_log_mel("cnn10", batch=4), np.eye(4, dtype=np.float32)
    model = gl_at(backbone="cnn10", **SMALL, dropout=0.0, block_dropout=0.0)
    before = [weight.numpy() for weight in model.trainable_weights]
    outputs = model(x, training=True)
    stream_losses = [keras.ops.mean(keras.losses.binary_crossentropy(y, outputs[name])) for name in ("global", "local")]
    trained, losses = fit(model, x, y)
    assert losses[-1] < losses[0]
    assert losses[0] == pytest.approx(float(sum(stream_losses)), rel=0.01)
    assert trained.output_shape == (None, 4, 3)
    unchanged = [w.path for w, old in zip(model.trainable_weights, before, strict=True) if np.array_equal(w, old)]
    assert not unchanged
    outputs, stacked = compute_outputs(model, x), compute_outputs(trained, x)["0"]
    for i, name in enumerate(("clipwise", "global", "local")):
        assert outputs[name].dtype == np.float32
        np.testing.assert_array_equal(stacked[..., i], outputs[name])


def test_training_outputs_of_a_model_from_another_process_can_be_selected(tmp_path):
    """Keras numbers operations in each process from the beginning, so that names may collide."""
    keras.backend.clear_session()
    build_small("cnn10").save(tmp_path / "model.keras")
    keras.backend.clear_session()
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert select_training_outputs(loaded).output_shape == (None, 4, 3)


@pytest.mark.slow
def test_a_frozen_global_stream_stays_as_it_is():
    """Its weights, averages and predictions do not change while the local stream is trained."""
    x, y = make_log_mel("cnn10", batch=4), np.eye(4, dtype=np.float32)
    model = build_small("cnn10", freeze_global=True, augment=SpecAugment(max_time_width=40))
    stream = model.get_layer("global_stream")
    before, expected = stream.get_weights(), compute_outputs(model, x)["global"]
    local = [weight.numpy() for weight in model.get_layer("local_stream").weights]
    fit(model, x, y, steps=2)
    for weight, old in zip(stream.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert all(
        not np.array_equal(w, old) for w, old in zip(model.get_layer("local_stream").weights, local, strict=True)
    )
    in_training = keras.ops.convert_to_numpy(model(x, training=True)["global"])
    np.testing.assert_allclose(in_training, expected, rtol=1e-4, atol=1e-6)


def test_each_stream_has_an_augmentation_layer_of_its_own():
    model = gl_at(backbone="cnn10", **SMALL, augment=SpecAugment(name="stripes"))
    stripes = [model.get_layer(f"{stream}_stream").get_layer("stripes") for stream in ("global", "local")]
    assert stripes[0] is not stripes[1]
    assert stripes[0].get_config() == stripes[1].get_config()


def test_both_streams_start_with_the_initial_weights(tmp_path):
    backbone = randomize_weights(cnn10(4, width=0.0625, input="waveform"))
    backbone.save(tmp_path / "cnn10.keras")
    model = gl_at(backbone="cnn10", **SMALL, initial_weights=tmp_path / "cnn10.keras")
    for stream in ("global_stream", "local_stream"):
        for got, expected in zip(model.get_layer(stream).get_weights(), backbone.get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)


def run_tflite(model, x):
    """Convert a model to builtin operations, and run it with LiteRT."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    content = convert_functions({"serve": (lambda x: model(x, training=False), "x", x.shape[1:])})
    return litert.Interpreter(model_content=content, num_threads=2).get_signature_runner()(x=x)


@pytest.mark.parametrize(
    ("backbone", "input", "tolerance"),
    [pytest.param("mn", "log_mel", 1e-5, marks=pytest.mark.slow), ("cnn10", "waveform", 5e-5)],
)
def test_tflite_equals_keras(backbone, input, tolerance):
    model = build_small(backbone, input=input, num_classes=6, suppress_radius_seconds=0.2)
    x = make_waveforms(32_000, batch=1) if input == "waveform" else make_log_mel(backbone, batch=1)
    got, expected = run_tflite(model, x), compute_outputs(model, x)
    assert got.keys() == expected.keys()
    for name in ("clipwise", "global", "local", "framewise"):
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(got["classes"], expected["classes"])
    np.testing.assert_allclose(got["start_seconds"], expected["start_seconds"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_jax_agrees_and_learns(tmp_path):
    model, x = build_small("cnn10", dropout=0.0, block_dropout=0.0), make_log_mel("cnn10", batch=4)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = f"""
import keras, numpy as np, sys
from kerastag.models.loading import load_model
from kerastag.recipes._papers import read_paper
from kerastag.training.outputs import select_training_outputs
from kerastag.training.stream_loss import StreamLoss
assert "tensorflow" not in sys.modules
x = np.load({str(tmp_path / "x.npy")!r})
model = load_model({str(tmp_path / "model.keras")!r})
np.savez({str(tmp_path / "out.npz")!r}, **{{k: np.asarray(v) for k, v in model.predict_on_batch(x).items()}})
trained = select_training_outputs(model)
keras.utils.set_random_seed(0)
trained.compile(keras.optimizers.Adam(3e-3), StreamLoss())
losses = trained.fit(x, np.eye(4, dtype="float32"), epochs=8, batch_size=4, verbose=0).history["loss"]
assert losses[-1] < 0.8 * losses[0], losses
print(keras.backend.backend())
"""
    env = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    assert run_python(code, env=env, timeout=300).strip().endswith("jax")
    got = np.load(tmp_path / "out.npz")
    for name, value in compute_outputs(model, x).items():
        np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vggish"}, "`backbone` must be one of talnet, cnn10, resnet38, at_sca, mn; received: 'vggish'"),
        ({"num_sub_clips": 0}, "`num_sub_clips` must be an integer of at least 1"),
        ({"num_classes": 0}, "`num_classes` must be an integer of at least 1; received: 0"),
        (
            {"sub_clip_seconds": 0.1},
            r"`sub_clip_seconds` must be at least 0\.32, an output frame of the backbone; received: 0.1",
        ),
        ({"select": "frames"}, "`select` must be one of log_mel, waveform; received: 'frames'"),
        ({"select": "waveform"}, "`select` must be 'log_mel' unless `input` is 'waveform'; received: 'waveform'"),
        ({"input": "audio"}, "`input` must be one of log_mel, waveform; received: 'audio'"),
        ({"sub_clip_pooling": "mean"}, "`sub_clip_pooling` must be one of max_average, max; received: 'mean'"),
        ({"suppress_radius_seconds": -0.5}, "`suppress_radius_seconds` must be a number of at least 0"),
        ({"share": "features"}, "`share` must be one of none, classifier, all; received: 'features'"),
        (
            {"share": "all", "freeze_global": True},
            "`share` must be none where `freeze_global` is True; received: 'all'",
        ),
        (
            {"share": "classifier", "frame_scores": "local"},
            "`share` must be none where `frame_scores` is local; received: 'classifier'",
        ),
        ({"frame_scores": "both"}, "`frame_scores` must be one of global, local; received: 'both'"),
        ({"residual_dropout": 0.1}, "`residual_dropout` must be None for the backbone mn; received: 0.1"),
        ({"backbone": "cnn10", "initial_weights": "nowhere.keras"}, "`initial_weights`: nowhere.keras: no such file"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        gl_at(**{"backbone": "mn", **SMALL, **arguments})


def test_the_number_of_sub_clips_is_limited_to_the_number_of_classes():
    assert gl_at(backbone="cnn10", **{**SMALL, "num_sub_clips": 9}).output["classes"].shape == (None, 4)
