"""Synthetic noises: of every color, in bands, at several levels, and the same for each run."""

import numpy as np

from kerastag.custom.noises import NOISE_PEAKS_DB, draw_noise, synthesize_noises


def test_noises_differ_in_color_and_level():
    noises = [draw_noise(np.random.default_rng(seed), 1.0, 16_000) for seed in range(60)]
    peaks_db = 20 * np.log10([np.abs(noise).max() for noise in noises])
    assert peaks_db.min() >= NOISE_PEAKS_DB[0] - 0.01
    assert peaks_db.max() <= NOISE_PEAKS_DB[1] + 0.01
    assert np.ptp(peaks_db) > 30
    hertz = np.fft.rfftfreq(16_000, 1 / 16_000)
    powers = [np.abs(np.fft.rfft(noise)) ** 2 for noise in noises]
    middles = np.array([(hertz * power).sum() / power.sum() for power in powers])
    assert (middles < 300).any()
    assert (middles > 5_000).any()
    pairs = list(zip(middles, powers, strict=True))
    widths = [np.sqrt(((hertz - middle) ** 2 * power).sum() / power.sum()) for middle, power in pairs]
    assert min(widths) < 500 < 2_000 < max(widths)


def test_the_level_of_some_noises_rises_and_falls():
    noises = [draw_noise(np.random.default_rng(seed), 4.0, 8_000) for seed in range(40)]
    levels = [np.sqrt((noise.reshape(16, -1) ** 2).mean(axis=1)) for noise in noises]
    changes = np.array([level.max() / level.min() for level in levels])
    assert 5 < (changes > 1.5).sum() < 30


def test_the_noises_to_train_on_are_the_same_for_each_call_and_differ_from_each_other():
    noises = synthesize_noises(8_000)
    synthesize_noises.cache_clear()
    for noise, again in zip(noises, synthesize_noises(8_000), strict=True):
        np.testing.assert_array_equal(noise, again)
    assert len({noise.tobytes() for noise in noises}) == len(noises) == 96
    assert {len(noise) for noise in noises} == {40_000}
