"""Class-wise selection equals section 2.2 of the paper in NumPy."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import ops

from checks import (
    check_batch_equals_items,
    check_config_round_trip,
    check_layer_saves_exactly,
    compute_gradients,
    compute_outputs,
)
from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect


def select_in_numpy(source, clipwise, framewise, num_sub_clips, sub_clip_seconds, sample_rate, radius_seconds):
    """Select the sub-clips of one clip in exact fractions; return them, their starts and their classes."""
    length, (frames, num_classes) = round(sub_clip_seconds * sample_rate), framewise.shape
    step = Fraction(len(source), frames)
    clipwise, framewise = (np.nan_to_num(x.astype(float), nan=0.0) for x in (clipwise, framewise))
    windows, starts, classes, taken = [], [], [], set()
    for k in sorted(range(num_classes), key=lambda k: (-clipwise[k], k))[:num_sub_clips]:
        free = [t for t in range(frames) if t not in taken] or range(frames)
        first = last = min(free, key=lambda t: (-framewise[t, k], t))
        while last + 1 in free and framewise[last + 1, k] == framewise[first, k]:
            last += 1
        m = Fraction(first + last, 2)
        if radius_seconds:
            radius = round(radius_seconds * sample_rate)
            taken |= {t for t in range(frames) if abs(t - m) * step <= radius}
        center = (m + Fraction(1, 2)) * step
        start = int(min(max(center - Fraction(length, 2), 0), len(source) - length) // 1)
        windows.append(source[start : start + length])
        starts.append(start / sample_rate)
        classes.append(k)
    return np.stack(windows), starts, classes


def select_batch_in_numpy(inputs, *arguments):
    clips = [select_in_numpy(*clip, *arguments) for clip in zip(*inputs, strict=True)]
    return [np.stack(part) for part in zip(*clips, strict=True)]


def check(inputs, num_sub_clips, sub_clip_seconds, sample_rate, radius_seconds=0.0):
    layer = ClassWiseClipSelect(num_sub_clips, sub_clip_seconds, sample_rate, radius_seconds, return_windows=True)
    got = list(compute_outputs(layer, inputs).values())
    windows, start_seconds, classes = select_batch_in_numpy(
        inputs, num_sub_clips, sub_clip_seconds, sample_rate, radius_seconds
    )
    np.testing.assert_array_equal(got[2], classes)
    np.testing.assert_allclose(got[1], start_seconds, rtol=1e-6)
    np.testing.assert_array_equal(got[0], windows)
    return start_seconds


def draw_probabilities(rng, shape, values):
    """Draw from few values, so that equal ones are common; some may be NaN."""
    return rng.choice(np.array(values, np.float32), shape)


def make_inputs(rng, batch, steps, frames, classes, bins=0, values=(0.0, 0.25, 0.5, 1.0)):
    source = rng.normal(size=(batch, steps, *[bins] * bool(bins))).astype(np.float32)
    return [
        source,
        draw_probabilities(rng, (batch, classes), values),
        draw_probabilities(rng, (batch, frames, classes), values),
    ]


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 3), st.integers(1, 60), st.integers(1, 60), st.integers(1, 7)),
    st.tuples(st.integers(1, 8), st.integers(1, 60), st.sampled_from([0.5, 4, 10, 31.25])),
    st.sampled_from([0.0, 0.2, 1.0, 50.0]),
    st.sampled_from([0, 3]),
    st.booleans(),
)
@example(0, (1, 60, 60, 1), (5, 60, 10), 0.0, 0, False)  # a clip as long as a sub-clip
@settings(max_examples=40 if keras.backend.backend() == "tensorflow" else 3)  # JAX compiles again for every shape
def test_equals_the_paper_in_numpy(seed, shape, window, radius_seconds, bins, with_nan):
    (batch, steps, frames, classes), (num_sub_clips, length, sample_rate) = shape, window
    frames, length = min(frames, steps), min(length, steps)
    values = (0.0, 0.25, 0.5, 1.0, np.nan) if with_nan else (0.0, 0.25, 0.5, 1.0)
    inputs = make_inputs(np.random.default_rng(seed), batch, steps, frames, classes, bins, values)
    check(inputs, num_sub_clips, length / sample_rate, sample_rate, radius_seconds)


def test_sub_clips_at_either_end_are_moved_inwards():
    frame = np.eye(10, dtype=np.float32)[None, :, [0, 1, 4, 8, 9]]  # five classes, each in one frame of one second
    clipwise = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], np.float32)
    source = np.arange(1000, dtype=np.float32)[None]
    starts = check([source, clipwise, frame], 5, 3.0, 100)
    np.testing.assert_allclose(starts, [[0, 0, 3, 7, 7]])
    spread = check([source, clipwise, frame], 5, 3.0, 100, radius_seconds=1.0)
    # Frames 1 and 9 are suppressed by 0 and 8. All free frames have equal probabilities for their classes, so that the
    # middle of the first run of free frames is selected: of 2 to 9 for one class, and finally of 2 for the other.
    np.testing.assert_allclose(spread, [[0, 4.5, 3, 7, 1]])


def test_a_sub_clip_is_around_the_middle_of_frames_of_probability_one():
    """A float32 sigmoid is 1 from 17 on, so several frames of an event have probability 1."""
    logits = 20 * np.cos(np.linspace(-np.pi, np.pi, 33, dtype=np.float32)) + 5  # largest in the middle of the clip
    framewise = ops.convert_to_numpy(ops.sigmoid(logits))[None, :, None]
    assert (framewise == 1).sum() > 7
    inputs = [np.zeros((1, 990), np.float32), np.ones((1, 1), np.float32), framewise]
    np.testing.assert_allclose(check(inputs, 1, 3.0, 99), [[3.5]], atol=0.01)
    framewise[0, 30] = 1  # a second run of frames with the maximum, which is ignored
    np.testing.assert_allclose(check(inputs, 1, 3.0, 99), [[3.5]], atol=0.01)


def test_equal_probabilities_are_in_the_order_of_the_classes_and_select_the_middle_frame():
    """Minus zero, NaN and subnormal numbers count as zero, because processors order them differently."""
    clipwise = np.array([[0.0, -0.0, np.nan, 1e-40, 0.5, 0.5]], np.float32)
    framewise = np.zeros((1, 8, 6), np.float32)
    framewise[0, 4:6] = [0.2, -0.0, 1e-41, np.nan, 0.7, 0.7]
    framewise[0, 0, 5] = np.nan
    source = np.arange(16, dtype=np.float32)[None]
    outputs = compute_outputs(ClassWiseClipSelect(6, 1.0, 2, return_windows=True), [source, clipwise, framewise])
    np.testing.assert_array_equal(outputs["2"], [[4, 5, 0, 1, 2, 3]])
    np.testing.assert_array_equal(outputs["1"], [[4.5, 4.5, 4.5, 3.5, 3.5, 3.5]])


def test_silence_and_nan_in_the_source_are_passed_on():
    _, clipwise, framewise = make_inputs(np.random.default_rng(0), 1, 20, 5, 3)
    layer = ClassWiseClipSelect(2, 1.0, 10)
    assert not compute_outputs(layer, [np.zeros((1, 20), np.float32), clipwise, framewise])["0"].any()
    source = np.full((1, 20), np.nan, np.float32)
    assert np.isnan(compute_outputs(layer, [source, clipwise, framewise])["0"]).all()


def test_ten_minutes_do_not_overflow():
    steps, frames = 600 * 16_000, 1875
    framewise = np.zeros((1, frames, 2), np.float32)
    framewise[0, 1700, 0] = framewise[0, -1, 1] = 1
    source = (np.arange(steps, dtype=np.int32) // 16_000).astype(np.float32)[None]
    starts = check([source, np.array([[1, 0.5]], np.float32), framewise], 2, 2.0, 16_000, radius_seconds=50.0)
    np.testing.assert_allclose(starts, [[543.16, 598]])


def test_batch_saving_and_config():
    inputs = make_inputs(np.random.default_rng(2), 3, 40, 8, 4, bins=3)
    layer = ClassWiseClipSelect(3, 1.0, 10, 0.5, return_windows=True)
    check_batch_equals_items(layer, inputs)
    check_layer_saves_exactly(layer, inputs)
    check_config_round_trip(layer)


def test_a_config_written_before_version_0_1_0_has_the_former_names_of_two_arguments():
    config = keras.saving.serialize_keras_object(ClassWiseClipSelect(3, 1.5, 10))
    arguments = config["config"]
    arguments["num_clips"], arguments["clip_seconds"] = (
        arguments.pop("num_sub_clips"),
        arguments.pop("sub_clip_seconds"),
    )
    layer = keras.saving.deserialize_keras_object(config)
    assert (layer.num_sub_clips, layer.sub_clip_seconds, layer.length) == (3, 1.5, 15)


@pytest.mark.parametrize("bins", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_lengths_may_be_unknown_and_the_graph_compiled(bins):
    """A source that is shorter than a sub-clip is padded with zeros."""
    shapes = [(None, *[bins] * bool(bins)), (4,), (None, 4)]
    inputs = [keras.Input(shape) for shape in shapes]
    layer = ClassWiseClipSelect(3, 1.0, 10, 0.5, return_windows=True)
    model = keras.Model(inputs, layer(inputs))
    assert list(model.output_shape) == [(None, 3, 10, *[bins] * bool(bins)), (None, 3), (None, 3)]
    rng = np.random.default_rng(4)
    for steps, frames in ((40, 8), (37, 9), (10, 1)):
        clip = make_inputs(rng, 2, steps, frames, 4, bins)
        for got, want in zip(model.predict(clip, verbose=0), select_batch_in_numpy(clip, 3, 1.0, 10, 0.5), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)
    short = make_inputs(rng, 2, 6, 2, 4, bins)
    windows, starts, _ = model.predict(short, verbose=0)
    np.testing.assert_array_equal(windows[:, 0, :6], short[0])
    assert not windows[:, :, 6:].any()
    assert not starts.any()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX compiles everything")
def test_xla_on_tensorflow_selects_the_same():
    inputs = make_inputs(np.random.default_rng(6), 2, 40, 8, 4)
    layer = ClassWiseClipSelect(3, 1.0, 10, 0.5, return_windows=True)
    import tensorflow as tf

    compiled = tf.function(lambda *x: layer(list(x)), jit_compile=True)
    for got, want in zip(
        compiled(*map(tf.constant, inputs)), select_batch_in_numpy(inputs, 3, 1.0, 10, 0.5), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_half_precision_does_not_change_the_sub_clips():
    rng = np.random.default_rng(5)
    inputs = [rng.random(shape).astype(np.float32) for shape in ((2, 400), (2, 5), (2, 9, 5))]
    inputs[1] = 0.9 + 1e-5 * inputs[1]  # all the same in bfloat16
    keras.config.set_dtype_policy("mixed_bfloat16")
    check(inputs, 4, 1.0, 100)


def test_no_gradient_flows_through_the_selection():
    inputs = make_inputs(np.random.default_rng(7), 1, 20, 5, 3)
    layer = ClassWiseClipSelect(2, 1.0, 10)
    gradients = compute_gradients(lambda *x: ops.sum(layer(list(x)), axis=2), *inputs)
    windows, starts, _ = select_batch_in_numpy(inputs, 2, 1.0, 10, 0.0)
    counts = np.zeros(20)
    for start in starts[0]:
        counts[round(start * 10) :][: windows.shape[2]] += 1
    np.testing.assert_array_equal(gradients[0][0], counts)
    assert all(gradient is None or not gradient.any() for gradient in gradients[1:])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFLite is converted on the TensorFlow backend")
@pytest.mark.parametrize("radius_seconds", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_converts_to_builtin_operations(radius_seconds, tmp_path):
    tf = pytest.importorskip("tensorflow")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    rng = np.random.default_rng(8)
    layer = ClassWiseClipSelect(4, 1.0, 10, radius_seconds, return_windows=True)
    symbolic = [keras.Input(shape, batch_size=1) for shape in ((40, 3), (6,), (8, 6))]
    windows, start_seconds, classes = layer(symbolic)
    model = keras.Model(symbolic, {"windows": windows, "start_seconds": start_seconds, "classes": classes})
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec(tensor.shape, tf.float32, name=f"x{i}") for i, tensor in enumerate(symbolic)]
    archive.add_endpoint("serve", lambda *x: model(list(x)), signature)
    archive.write_out(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    run = litert.Interpreter(model_content=converter.convert(), num_threads=1).get_signature_runner()
    for _ in range(20):
        inputs = make_inputs(rng, 1, 40, 8, 6, bins=3, values=(0.0, 0.25, 0.5, np.nan))
        outputs = run(**{f"x{i}": array for i, array in enumerate(inputs)})
        for name, want in zip(
            ("windows", "start_seconds", "classes"),
            select_batch_in_numpy(inputs, 4, 1.0, 10, radius_seconds),
            strict=True,
        ):
            np.testing.assert_allclose(outputs[name], want, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sub_clips": 0}, "`num_sub_clips` must be an integer of at least 1; received: 0"),
        ({"num_sub_clips": 1.5}, "`num_sub_clips` must be an integer of at least 1; received: 1.5"),
        ({"sub_clip_seconds": 0}, "`sub_clip_seconds` must be a number above 0; received: 0"),
        ({"sub_clip_seconds": float("nan")}, "`sub_clip_seconds` must be a number above 0; received: nan"),
        ({"sub_clip_seconds": 1e-9}, "`sub_clip_seconds` must be at least one step of the source; received: 1e-09"),
        ({"sample_rate": "32k"}, "`sample_rate` must be a number above 0; received: '32k'"),
        ({"suppress_radius_seconds": -1}, "`suppress_radius_seconds` must be a number of at least 0; received: -1"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassWiseClipSelect(**arguments)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 20), (2, 3), (2, 5, 3)), r"`sub_clip_seconds` must be at most the 2 s of the source; received: 3.0"),
        (((2, 40), (2, 3), (2, 5, 4)), r"`clipwise` and `framewise` must have the same classes.*\(2, 3\), \(2, 5, 4\)"),
        (((2, 40), (1, 3), (2, 5, 3)), r"`inputs` must have the same batch.*\(2, 40\), \(1, 3\), \(2, 5, 3\)"),
        (((2, 40), (2, 3), (2, 41, 3)), "`framewise` must have from 1 to 40 output frames.*received: 41"),
        (((2, 40), (2, 3), (2, 0, 3)), "`framewise` must have from 1 to 40 output frames.*received: 0"),
        (((2, 40), (2, 3, 3), (2, 5, 3)), r"`inputs` must be source \(batch, steps\) or .*\(2, 3, 3\)"),
    ],
)
def test_inputs_that_do_not_match_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        ClassWiseClipSelect(2, 3.0, 10)([np.zeros(shape, np.float32) for shape in shapes])


def test_a_later_call_is_checked_too():
    layer = ClassWiseClipSelect(2, 1.0, 10)
    layer([np.zeros(shape, np.float32) for shape in ((2, 40), (2, 3), (2, 5, 3))])
    with pytest.raises(ValueError, match="`inputs` must have the same batch"):
        layer([np.zeros(shape, np.float32) for shape in ((4, 40), (2, 3), (2, 5, 3))])
