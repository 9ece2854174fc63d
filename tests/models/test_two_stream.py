"""Global-local attention: what every backbone gives in two streams, how it trains, and what it is on a device."""

from importlib.util import find_spec

import keras
import numpy as np
import pytest

from checks import check_batch_equals_items, check_layer_saves_exactly, compute_outputs, randomize_weights, run_python
from kerastag.dsp import FRONT_ENDS
from kerastag.export.tflite import convert_functions
from kerastag.layers.spec_augment import SpecAugment
from kerastag.models import MODELS
from kerastag.models.backbones.mn import mn
from kerastag.models.two_stream import BACKBONES, get_backbone, gl_at
from kerastag.training.outputs import select_training_outputs
from kerastag.training.stream_loss import StreamLoss

SMALL = {"num_classes": 4, "width": 0.0625, "num_sub_clips": 3, "sub_clip_seconds": 0.8}


def small(backbone, **settings):
    return randomize_weights(gl_at(backbone=backbone, **{**SMALL, **settings}))


def waveform(sample_rate, seconds=2.0, batch=2):
    rng = np.random.default_rng(0)
    level = np.repeat(rng.uniform(0.01, 0.5, (batch, 10)), int(seconds * sample_rate / 10), axis=1)
    return (level * rng.uniform(-1, 1, level.shape)).astype(np.float32)


def log_mel(backbone, **signal):
    front_end = FRONT_ENDS[get_backbone(backbone).front_end]
    return front_end.compute_log_mel(waveform(front_end.sample_rate, **signal))


def pooled(x):
    return 0.5 * x.max(axis=1) + 0.5 * x.mean(axis=1)


def by_hand(model, x, sub_clip_seconds, rate, pooled_windows=pooled):
    """The two streams of a model, put together in NumPy."""
    heard = compute_outputs(model.get_layer("global_stream"), x)
    frames, length = heard["framewise"].shape[1], round(sub_clip_seconds * rate)
    local, starts, classes = [], [], []
    for clip, probability, over_time in zip(x, heard["clipwise"], heard["framewise"], strict=True):
        best = np.argsort(-probability, kind="stable")[:3]
        centers = (over_time[:, best].argmax(axis=0) + 0.5) * len(clip) / frames
        begin = np.clip(np.floor(centers - length / 2), 0, len(clip) - length).astype(int)
        windows = np.stack([clip[start : start + length] for start in begin])
        local.append(pooled_windows(compute_outputs(model.get_layer("local_stream"), windows)["clipwise"][None])[0])
        starts.append(begin / rate)
        classes.append(best)
    both = pooled(np.stack([heard["clipwise"], local], axis=1))
    return {
        "clipwise": both,
        "global": heard["clipwise"],
        "local": np.stack(local),
        "framewise": heard["framewise"],
        "embedding": heard["embedding"],
        "start_seconds": np.stack(starts),
        "classes": np.stack(classes),
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_two_streams_put_together_by_hand(backbone):
    model, x = small(backbone), log_mel(backbone)
    got = compute_outputs(model, x)
    expected = by_hand(model, x, 0.8, FRONT_ENDS[get_backbone(backbone).front_end].frames_per_second)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.ptp(got["local"]) > 1e-3
    assert len(np.unique(got["start_seconds"])) > 1
    weights = [{id(weight) for weight in model.get_layer(f"{s}_stream").weights} for s in ("global", "local")]
    assert not weights[0] & weights[1]


def test_the_maximum_over_sub_clips_instead_of_the_papers_pooling():
    model, x = small("talnet", sub_clip_pooling="max"), log_mel("talnet")
    got = compute_outputs(model, x)
    expected = by_hand(model, x, 0.8, FRONT_ENDS["talnet"].frames_per_second, lambda each: each.max(axis=1))
    for name in ("local", "clipwise"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    paper = small("talnet")
    paper.set_weights(model.get_weights())
    assert (got["local"] - compute_outputs(paper, x)["local"]).max() > 1e-3, "what was compared above differs"


def test_the_registry_has_a_row_for_every_backbone():
    assert set(BACKBONES) == {"talnet", "cnn10", "resnet38", "at_sca", "mn"}
    for backbone in BACKBONES:
        entry = MODELS[f"gl_at_{backbone}"]
        assert entry.front_end == MODELS[backbone].front_end == get_backbone(backbone).front_end


@pytest.mark.parametrize("select", ["log_mel", "waveform"])
def test_waveform_in_is_the_front_end_once_or_once_a_stream(select):
    sound = waveform(32_000)
    heard, body = small("cnn10", input="waveform", select=select), small("cnn10")
    body.set_weights(heard.get_weights())
    got, inside = compute_outputs(heard, sound), compute_outputs(body, FRONT_ENDS["panns"].compute_log_mel(sound))
    np.testing.assert_allclose(got["global"], inside["global"], rtol=1e-4, atol=1e-5)
    assert ("local_front_end" in [layer.name for layer in heard.layers]) == (select == "waveform")
    if select == "log_mel":
        np.testing.assert_allclose(got["clipwise"], inside["clipwise"], rtol=1e-4, atol=1e-5)
        return
    starts = np.round(got["start_seconds"] * 32_000).astype(int)
    windows = np.stack([clip[start : start + 25_600] for clip, row in zip(sound, starts, strict=True) for start in row])
    each = compute_outputs(heard.get_layer("local_stream"), FRONT_ENDS["panns"].compute_log_mel(windows))["clipwise"]
    np.testing.assert_allclose(got["local"], pooled(each.reshape(2, 3, 4)), rtol=1e-3, atol=1e-4)


def test_batch_equals_items_and_saving_is_exact():
    model = small("talnet", input="waveform", suppress_radius_seconds=0.5, augment=SpecAugment())
    check_batch_equals_items(model, waveform(16_000), atol=1e-4, rtol=1e-4)
    check_layer_saves_exactly(model, waveform(16_000))


def test_short_and_silent_and_broken_clips():
    model = small("cnn10", input="waveform")
    short = waveform(32_000, seconds=0.5)
    got = compute_outputs(model, short)
    assert not got["start_seconds"].any()
    windows = np.pad(FRONT_ENDS["panns"].compute_log_mel(short), [(0, 0), (0, 29), (0, 0)])
    each = compute_outputs(model.get_layer("local_stream"), windows)["clipwise"]
    np.testing.assert_allclose(got["local"], each, rtol=1e-4, atol=1e-5)  # three times the same window
    assert all(np.isfinite(value).all() for value in compute_outputs(model, 0 * short).values())
    broken = compute_outputs(model, np.full_like(short, np.nan))
    assert np.isnan(broken["clipwise"]).all()
    assert not broken["start_seconds"].any()


def fitted(model, x, y, steps=6, **compiled):
    trained = select_training_outputs(model)
    trained.compile(keras.optimizers.Adam(1e-2), StreamLoss(), **compiled)
    losses = trained.fit(x, y, epochs=steps, batch_size=len(x), verbose=0).history["loss"]
    return trained, losses


@pytest.mark.slow
def test_both_streams_learn_in_half_precision_and_the_sum_of_their_losses_falls():
    keras.config.set_dtype_policy("mixed_bfloat16")
    x, y = log_mel("cnn10", batch=4), np.eye(4, dtype=np.float32)
    model = gl_at(backbone="cnn10", **SMALL, dropout=0.0, block_dropout=0.0)
    before = [weight.numpy() for weight in model.trainable_weights]
    said = model(x, training=True)
    of_streams = [keras.ops.mean(keras.losses.binary_crossentropy(y, said[name])) for name in ("global", "local")]
    trained, losses = fitted(model, x, y)
    assert losses[-1] < losses[0]
    assert losses[0] == pytest.approx(float(sum(of_streams)), rel=0.01)
    assert trained.output_shape == (None, 4, 3)
    still = [w.path for w, old in zip(model.trainable_weights, before, strict=True) if np.array_equal(w, old)]
    assert not still
    outputs, stacked = compute_outputs(model, x), compute_outputs(trained, x)["0"]
    for i, name in enumerate(("clipwise", "global", "local")):
        assert outputs[name].dtype == np.float32
        np.testing.assert_array_equal(stacked[..., i], outputs[name])


def test_a_model_that_another_process_saved_has_a_training_part(tmp_path):
    """Keras names operations by counting them, in each process from the beginning."""
    keras.backend.clear_session()
    small("cnn10").save(tmp_path / "model.keras")
    keras.backend.clear_session()
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert select_training_outputs(loaded).output_shape == (None, 4, 3)


@pytest.mark.slow
def test_a_frozen_global_stream_stays_as_it_is():
    """Weights, normalization's averages, and what it says while the local stream learns."""
    x, y = log_mel("cnn10", batch=4), np.eye(4, dtype=np.float32)
    model = small("cnn10", freeze_global=True, augment=SpecAugment(max_time_width=40))
    stream = model.get_layer("global_stream")
    before, said = stream.get_weights(), compute_outputs(model, x)["global"]
    local = [weight.numpy() for weight in model.get_layer("local_stream").weights]
    fitted(model, x, y, steps=2)
    for weight, old in zip(stream.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert all(
        not np.array_equal(w, old) for w, old in zip(model.get_layer("local_stream").weights, local, strict=True)
    )
    learning = keras.ops.convert_to_numpy(model(x, training=True)["global"])
    np.testing.assert_allclose(learning, said, rtol=1e-4, atol=1e-6)


def test_streams_are_augmented_each_by_itself():
    model = gl_at(backbone="mn", **SMALL, augment=SpecAugment(name="stripes"))
    stripes = [model.get_layer(f"{stream}_stream").get_layer("stripes") for stream in ("global", "local")]
    assert stripes[0] is not stripes[1]
    assert stripes[0].get_config() == stripes[1].get_config()


def test_both_streams_begin_with_the_given_weights(tmp_path):
    alone = randomize_weights(mn(4, width=0.0625, input="waveform"))
    alone.save(tmp_path / "mn.keras")
    model = gl_at(backbone="mn", **SMALL, initial_weights=tmp_path / "mn.keras")
    for stream in ("global_stream", "local_stream"):
        for got, want in zip(model.get_layer(stream).get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_array_equal(got, want)


def tflite(model, x):
    """What a model gives in LiteRT, of builtin operations only."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    content = convert_functions({"serve": (lambda x: model(x, training=False), "x", x.shape[1:])})
    return litert.Interpreter(model_content=content, num_threads=2).get_signature_runner()(x=x)


@pytest.mark.parametrize(
    ("backbone", "input", "tolerance"),
    [pytest.param("mn", "log_mel", 1e-5, marks=pytest.mark.slow), ("cnn10", "waveform", 5e-5)],
)
def test_tflite_equals_keras(backbone, input, tolerance):
    model = small(backbone, input=input, num_classes=6, suppress_radius_seconds=0.2)
    x = waveform(32_000, batch=1) if input == "waveform" else log_mel(backbone, batch=1)
    got, expected = tflite(model, x), compute_outputs(model, x)
    assert got.keys() == expected.keys()
    for name in ("clipwise", "global", "local", "framewise"):
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(got["classes"], expected["classes"])
    np.testing.assert_allclose(got["start_seconds"], expected["start_seconds"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_jax_agrees_and_learns(tmp_path):
    model, x = small("cnn10", dropout=0.0, block_dropout=0.0), log_mel("cnn10", batch=4)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = f"""
import keras, numpy as np, sys
from kerastag.models.loading import load_model
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
    ("settings", "message"),
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
        ({"initial_weights": "nowhere.keras"}, "`initial_weights`: nowhere.keras: no such file"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        gl_at(**{"backbone": "mn", **SMALL, **settings})


def test_more_sub_clips_than_classes_means_all_of_them():
    assert gl_at(backbone="mn", **{**SMALL, "num_sub_clips": 9}).output["classes"].shape == (None, 4)
