"""The layer equals the NumPy front ends on every backend and in TFLite."""

import keras
import numpy as np
import pytest

from checks import (
    check_batch_equals_items,
    check_config_round_trip,
    check_layer_saves_exactly,
    same_on_all_backends,
)
from kerastag.dsp import FRONT_ENDS
from kerastag.export.tflite import convert_functions
from kerastag.layers.log_mel import TRANSFORMS, LogMel

NAMES = sorted(FRONT_ENDS)


def signals(sample_rate, seconds=1.2):
    """Make noise, silence, an impulse, and speech-like harmonics with pauses over a noise floor, loud and quiet."""
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    voice = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 25)) * (np.sin(2 * np.pi * 3 * time) > 0)
    speech = 0.2 * voice + 1e-3 * rng.standard_normal(len(time))
    rows = [0.2 * rng.standard_normal(len(time)), 0 * time, time == time[len(time) // 2], speech, 0.01 * speech]
    return np.stack(rows).astype(np.float32)


def outputs(layer, waveform):
    return keras.ops.convert_to_numpy(layer(waveform))


def tolerance(name):
    return 1e-3 if FRONT_ENDS[name].log == "decibel" else 1e-4


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", NAMES)
def test_equals_numpy(name, transform):
    waveforms = signals(FRONT_ENDS[name].sample_rate)
    actual, expected = outputs(LogMel(name, transform), waveforms), FRONT_ENDS[name].compute_log_mel(waveforms)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", NAMES)
def test_equals_numpy_on_a_sine_down_to_the_rounding_of_float32(name, transform):
    """Most bands of a full-scale sine are more than 70 dB below its own, where float32 has no digits left."""
    front_end = FRONT_ENDS[name]
    time = np.arange(front_end.sample_rate) / front_end.sample_rate
    sine = (0.9 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None]
    actual, expected = outputs(LogMel(name, transform), sine), front_end.compute_log_mel(sine)
    decibels = expected if front_end.log == "decibel" else expected * front_end.scale * 10 / np.log(10)
    decibels = decibels * (2 if front_end.spectrum == "magnitude" else 1)
    loud = decibels > decibels.max(axis=-1, keepdims=True) - 70
    assert loud.mean() > 0.05
    np.testing.assert_allclose(actual[loud], expected[loud], rtol=0, atol=tolerance(name))
    if name == "talnet":  # whose floor is far below the rounding of the magnitudes
        actual, expected = 10 ** (actual / 10), 10 ** (expected / 10)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * expected.max())
    else:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=200 * tolerance(name))


@same_on_all_backends
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_items(name, transform):
    check_batch_equals_items(LogMel(name, transform), signals(FRONT_ENDS[name].sample_rate, 0.3), atol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [1, 160, 700])
def test_short_waveforms_equal_numpy(name, samples, transform):
    waveform = signals(16_000)[:, -samples:]
    np.testing.assert_allclose(
        outputs(LogMel(name, transform), waveform),
        FRONT_ENDS[name].compute_log_mel(waveform),
        rtol=0,
        atol=tolerance(name),
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_is_float32_under_any_policy(policy):
    waveform = signals(16_000, 0.3)
    expected = outputs(LogMel("vggish"), waveform)
    keras.config.set_dtype_policy(policy)
    actual = outputs(LogMel("vggish"), waveform)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, expected)


def test_saving_and_the_config_are_exact():
    check_layer_saves_exactly(LogMel("efficientat"), signals(32_000, 0.3))
    check_config_round_trip(LogMel("panns", "two_step"))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_length_may_be_unknown(transform):
    model = keras.Sequential([keras.Input((None,)), LogMel("panns", transform)])
    assert model.output_shape == (None, None, 64)
    for seconds in (0.01, 0.4):
        waveform = signals(32_000, seconds)
        actual = model.predict(waveform, verbose=0)
        np.testing.assert_allclose(actual, FRONT_ENDS["panns"].compute_log_mel(waveform), rtol=0, atol=1e-3)


def test_output_shape_is_known_without_data():
    assert LogMel("talnet").compute_output_shape((None, 160_000)) == (None, 401, 64)
    assert keras.Sequential([keras.Input((160_000,)), LogMel("vggish")]).output_shape == (None, 998, 64)


def test_invalid_arguments_and_inputs_are_refused():
    with pytest.raises(ValueError, match=r"`front_end` must be one of panns, .*; received: 'mel'"):
        LogMel("mel")
    with pytest.raises(ValueError, match=r"`transform` must be one of fft, two_step; received: 'dct'"):
        LogMel("panns", "dct")
    with pytest.raises(ValueError, match=r"axes \(batch, samples\).*\(2, 3, 4\)"):
        LogMel("panns")(np.zeros((2, 3, 4), np.float32))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFLite is converted on the TensorFlow backend")
@pytest.mark.parametrize(
    ("name", "transform"),
    [pytest.param("panns", "fft", marks=pytest.mark.slow), *((name, "two_step") for name in NAMES)],
)
def test_converts_to_builtin_operations(name, transform):
    """The log-mel of speech-like signals, loud and quiet, is within 5e-4 of NumPy, and within 5e-3 in decibels."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    front_end = FRONT_ENDS[name]
    waveforms = signals(front_end.sample_rate)
    content = convert_functions({"serve": (LogMel(name, transform), "waveform", waveforms.shape[1:])})
    interpreter = litert.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    for waveform in waveforms:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveform[None])
        interpreter.invoke()
        actual = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        np.testing.assert_allclose(actual, front_end.compute_log_mel(waveform), rtol=0, atol=5 * tolerance(name))
