"""Front ends compared with their formulas in float64, and invalid arguments."""

import dataclasses
import json

import numpy as np
import pytest

from checks import SHARED
from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.dsp import front_end as front_end_module

NAMES = sorted(FRONT_ENDS)


def compute_hann(length, period):
    return np.array([0.5 * (1 - np.cos(2 * np.pi * n / period)) for n in range(length)])


def compute_triangles(edges, points):
    """Compute one column per band: it rises from edges[b] to 1 at edges[b + 1] and falls to edges[b + 2]."""
    return np.stack([np.interp(points, edges[b : b + 3], [0, 1, 0]) for b in range(len(edges) - 2)], axis=1)


def compute_htk_bands(count, low, high, rate, fft):
    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)

    return compute_triangles(np.linspace(mel(low), mel(high), count + 2), mel(np.fft.rfftfreq(fft, 1 / rate)))


def compute_slaney_bands(count, low, high, rate, fft):
    def mel(hz):
        return hz / (200 / 3) if hz < 1000 else 15 + np.log(hz / 1000) / (np.log(6.4) / 27)

    def hz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)

    edges = np.array([hz(m) for m in np.linspace(mel(low), mel(high), count + 2)])
    return compute_triangles(edges, np.fft.rfftfreq(fft, 1 / rate)) * 2 / (edges[2:] - edges[:-2])


def compute_spectra(x, window, fft, hop, padding):
    x = np.pad(x, padding, mode="reflect")
    starts = range(0, len(x) - len(window) + 1, hop)
    return np.abs(np.stack([np.fft.rfft(window * x[start : start + len(window)], fft) for start in starts]))


def compute_reference(name, x):
    """Compute a published front end in float64, without the module under test."""
    x = np.asarray(x, np.float64)
    if name == "panns":
        power = compute_spectra(x, compute_hann(1024, 1024), 1024, 320, 512) ** 2
        return 10 * np.log10(np.maximum(power @ compute_slaney_bands(64, 50, 14_000, 32_000, 1024), 1e-10))
    if name == "efficientat":
        x = np.array([x[t + 1] - 0.97 * x[t] for t in range(len(x) - 1)])
        # A window of 800 centered in frames of 1024 that are themselves centered.
        window = np.pad(compute_hann(800, 799), 112)
        power = compute_spectra(x, window, 1024, 320, 512) ** 2
        return (np.log(power @ compute_htk_bands(128, 0, 16_000, 32_000, 1024) + 1e-5) + 4.5) / 5
    if name == "talnet":
        magnitude = compute_spectra(x, compute_hann(1024, 1024), 4096, 400, 512)
        return 10 * np.log10(np.maximum(magnitude @ compute_slaney_bands(64, 0, 8_000, 16_000, 4096), 1e-10))
    magnitude = compute_spectra(x, compute_hann(400, 400), 512, 160, 0)
    return np.log(magnitude @ compute_htk_bands(64, 125, 7_500, 16_000, 512) + 0.01)


def make_noise(samples, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0.5, 0.005])
def test_log_mel_equals_the_published_formula(name, level):
    waveform = make_noise(FRONT_ENDS[name].sample_rate + 77, level=level)
    actual, expected = FRONT_ENDS[name].compute_log_mel(waveform), compute_reference(name, waveform)
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3 if FRONT_ENDS[name].log == "decibel" else 1e-4)


def test_talnet_equals_its_public_front_end_but_for_two_frames_at_either_end():
    """As librosa and torchaudio compute it: frames of 4096, with the window in their middle, after padding by zeros."""
    x = make_noise(3 * 16_000 + 123, level=0.2)
    padded, window = np.pad(x.astype(float), 2048), np.pad(compute_hann(1024, 1024), 1536)
    frames = np.stack([padded[start : start + 4096] for start in range(0, len(x) + 1, 400)])
    magnitude = np.abs(np.fft.rfft(frames * window))
    expected = 10 * np.log10(np.maximum(magnitude @ compute_slaney_bands(64, 0, 8_000, 16_000, 4096), 1e-10))
    got = FRONT_ENDS["talnet"].compute_log_mel(x)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got[2:-2], expected[2:-2], rtol=0, atol=5e-5)


@pytest.mark.parametrize(("name", "frames"), [("panns", 1001), ("efficientat", 1000), ("talnet", 401), ("vggish", 998)])
def test_ten_seconds_have_the_published_number_of_frames(name, frames):
    front_end = FRONT_ENDS[name]
    samples = 10 * front_end.sample_rate
    assert front_end.count_frames(samples) == len(front_end.compute_log_mel(np.zeros(samples, np.float32))) == frames


@pytest.mark.parametrize(
    ("name", "floor"),
    [("panns", -100.0), ("efficientat", (np.log(1e-5) + 4.5) / 5), ("talnet", -100.0), ("vggish", np.log(0.01))],
)
def test_silence_gives_the_floor(name, floor):
    np.testing.assert_allclose(FRONT_ENDS[name].compute_log_mel(np.zeros(20_000, np.float32)), floor, rtol=1e-6)


# Centers computed by hand: mel(hz) = 2595 log10(1 + hz / 700), bands at equal distances between both edges.
@pytest.mark.parametrize(
    ("name", "band", "center_hz"),
    [("vggish", 0, 158.6), ("vggish", 63, 7197.5), ("panns", 0, 84.6), ("talnet", 63, 7626)],
)
def test_a_sine_at_the_center_of_a_band_has_its_maximum_there(name, band, center_hz):
    front_end = FRONT_ENDS[name]
    time = np.arange(front_end.sample_rate) / front_end.sample_rate
    log_mel = front_end.compute_log_mel((0.5 * np.sin(2 * np.pi * center_hz * time)).astype(np.float32))
    assert log_mel[5:-5].mean(axis=0).argmax() == band


def test_mel_matrix_spans_the_bands_of_each_front_end():
    for front_end in FRONT_ENDS.values():
        matrix, bins_hz = front_end.mel_matrix, np.fft.rfftfreq(front_end.fft_length, 1 / front_end.sample_rate)
        covered = bins_hz[matrix.any(axis=1)]
        step = bins_hz[1]
        assert front_end.min_hz < covered[0] <= front_end.min_hz + step
        assert front_end.max_hz - step <= covered[-1] < front_end.max_hz
        assert ((matrix > 0).sum(axis=1) <= 2).all()
        assert not matrix.flags.writeable
    areas = FRONT_ENDS["panns"].mel_matrix[:, 20:].sum(axis=0) * 32_000 / 1024
    np.testing.assert_allclose(areas, 1, atol=0.05)  # normalized: every band has an area of one, in Hz


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [-1, 1])
def test_no_bin_at_an_edge_has_a_weight_however_a_processor_rounds(monkeypatch, name, error):
    rounded = front_end_module._mel_to_hz
    monkeypatch.setattr(front_end_module, "_mel_to_hz", lambda mel, scale: rounded(mel, scale) * (1 + error * 4e-16))
    front_end = FRONT_ENDS[name]
    bins_hz = np.fft.rfftfreq(front_end.fft_length, 1 / front_end.sample_rate)
    covered = bins_hz[front_end_module.MelFilterbank(front_end).matrix.any(axis=1)]
    assert front_end.min_hz < covered[0] < covered[-1] < front_end.max_hz


@pytest.mark.parametrize("name", NAMES)
def test_applying_the_filterbank_equals_the_product_with_its_matrix(name):
    front_end = FRONT_ENDS[name]
    spectrum = np.random.default_rng(0).random((7, front_end.fft_length // 2 + 1)).astype(np.float32)
    dense = spectrum.astype(np.float64) @ front_end.mel_matrix.astype(np.float64)
    np.testing.assert_allclose(
        front_end.filterbank.apply(np.ascontiguousarray(spectrum.T)).T, dense, rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_items_and_strides_do_not_matter(name):
    batch = make_noise(3 * 4000).reshape(3, 4000)
    together = FRONT_ENDS[name].compute_log_mel(batch)
    for item, row in zip(together, batch, strict=True):
        np.testing.assert_array_equal(item, FRONT_ENDS[name].compute_log_mel(row))
        np.testing.assert_array_equal(item, FRONT_ENDS[name].compute_log_mel(np.repeat(row, 2)[::2].astype(np.float64)))
    assert FRONT_ENDS[name].compute_log_mel(batch[:0]).shape == (0, *together.shape[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_short_waveform_is_padded_with_zeros_at_its_end(name):
    front_end = FRONT_ENDS[name]
    padded = np.zeros(front_end.min_samples, np.float32)
    padded[:160] = short = make_noise(160)
    np.testing.assert_array_equal(front_end.compute_log_mel(short), front_end.compute_log_mel(padded))


@pytest.mark.parametrize("name", NAMES)
def test_a_front_end_survives_json(name):
    front_end = FRONT_ENDS[name]
    assert FrontEnd.from_dict(json.loads(json.dumps(front_end.as_dict()))) == front_end


def test_from_dict_names_unknown_and_missing_fields():
    values = FRONT_ENDS["vggish"].as_dict()
    values["hop"] = values.pop("hop_length")
    with pytest.raises(ValueError, match=r"unknown \['hop'\], missing \['hop_length'\]"):
        FrontEnd.from_dict(values)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sample_rate", 0, "an integer from 1 to 1,000,000; received: 0"),
        ("hop_length", 1.5, "an integer from 1 to 1,000,000; received: 1.5"),
        ("fft_length", 256, "even and at least 400"),
        ("padding", 201, "from 0 to 200"),
        ("preemphasis", 2.0, r"in \[0, 1\]"),
        ("max_hz", 8_001.0, "at most 8000 Hz"),
        ("min_hz", 7_500.0, "below `max_hz`"),
        ("max_hz", 125.5, "more than .* Hz, a bin, above `min_hz`"),
        ("name", 5, "text"),
        ("num_mel_bins", 10**9, "from 1 to 512"),
        ("fft_length", 2**40, "from 1 to 32,768"),
        ("min_hz", "0", "a finite number"),
        ("shift", float("nan"), "a finite number"),
        ("periodic_window", "yes", "true or false"),
        ("spectrum", ["power"], "one of power, magnitude"),
        ("floor", 0.0, "above 0"),
        ("scale", 0.0, "other than 0"),
        ("log", "log2", "one of natural, decibel"),
        ("mel_scale", "bark", "one of htk, slaney"),
    ],
)
def test_a_constant_out_of_range_is_rejected(field, value, message):
    with pytest.raises(ValueError, match=f"`{field}` must be .*{message}"):
        dataclasses.replace(FRONT_ENDS["vggish"], **{field: value})


@pytest.mark.parametrize(
    "waveform", [np.zeros(0, np.float32), np.zeros(9000, np.int16), np.zeros((1, 1, 9000), np.float32)]
)
def test_an_array_that_is_not_a_waveform_is_rejected(waveform):
    with pytest.raises(ValueError, match="`waveform` must be float samples"):
        FRONT_ENDS["vggish"].compute_log_mel(waveform)


@pytest.mark.real
@pytest.mark.parametrize("clip", ["R9_ZSCveAHg_7s", "speech", "typing", "music"])
def test_efficientat_equals_the_reference_implementation(clip):
    soundfile = pytest.importorskip("soundfile")
    waveform, _ = soundfile.read(SHARED / "data/audio" / f"{clip}.wav", dtype="float32")
    golden = np.load(SHARED / "data/golden/mn04_as.npz")[f"{clip}.logmel_first100"]
    np.testing.assert_allclose(FRONT_ENDS["efficientat"].compute_log_mel(waveform)[:100], golden, rtol=0, atol=1e-4)
