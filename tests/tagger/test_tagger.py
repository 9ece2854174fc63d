"""Tagger: windows and lengths against a model whose answers are known."""

import numpy as np
import pytest
import soundfile

from kerastag.card import Card
from kerastag.labels import LabelSet
from kerastag.tagger import Tag, Tagger

RATE = 16_000
CLASSES = LabelSet(("/m/a", "/m/b", "/m/c"), ("Bark", "Rain", "Speech"))


class Loudness:
    """A model whose answers are known: a frame of `frame` samples has the probability of its largest sample.

    Class 0 is that, class 1 its half, class 2 nothing; a last, partial frame answers 1 for class 2, as an artifact of
    its padding. The clip has its frames' maximum, or a share of it; the embedding is (mean, number of samples).
    """

    input = "waveform"
    outputs = ("clipwise", "framewise", "embedding")

    def __init__(self, frame=1_600, length=None, share=1.0):
        self.frame, self.length, self.share, self.batches = frame, length, np.float32(share), []

    def __call__(self, batch):
        self.batches.append(batch.shape)
        count = -(-batch.shape[1] // self.frame)
        padded = np.pad(batch, [(0, 0), (0, count * self.frame - batch.shape[1])])
        peak = padded.reshape(len(batch), count, self.frame).max(axis=2)
        framewise = np.stack([peak, peak / 2, np.zeros_like(peak)], axis=2).astype(np.float32)
        framewise[:, -1, 2] = padded.shape[1] > batch.shape[1]
        embedding = np.stack([batch.mean(axis=1), np.full(len(batch), batch.shape[1])], axis=1)
        return {"clipwise": self.share * framewise.max(axis=1), "framewise": framewise, "embedding": embedding}


def loudness(window_seconds=1.05, **settings):
    model = Loudness(**settings)
    return Tagger(model, Card(CLASSES, RATE, window_seconds, seconds_per_frame=0.1), "loudness"), model


def ramp(seconds):
    """A waveform whose every sample tells its place."""
    samples = round(seconds * RATE)
    return np.linspace(0, 0.9, samples, dtype=np.float32)


@pytest.mark.parametrize("seconds", [0.03, 0.7, 1.05, 1.06, 2.0, 2.05, 3.33, 47.0, 100.0])
@pytest.mark.parametrize("fixed", [False, True])
def test_frames_of_all_windows_stand_on_one_even_grid(seconds, fixed):
    tagger, _ = loudness(length=round(1.05 * RATE) if fixed else None)
    waveform = ramp(seconds)
    timeline = tagger.timeline(waveform, sample_rate=RATE)
    count = -(-len(waveform) // 1_600)
    np.testing.assert_allclose(timeline.seconds, 0.1 * np.arange(count), atol=1e-9)
    peaks = [waveform[start : start + 1_600].max() for start in range(0, len(waveform), 1_600)]
    np.testing.assert_array_equal(timeline.probabilities[:, 0], np.float32(peaks))
    # Only the recording's own end may be a partial frame: within it, each has been heard whole.
    assert not timeline.probabilities[:-1, 2].any()
    assert timeline.duration_seconds == pytest.approx(seconds, abs=1 / RATE)
    assert (np.diff(timeline.edges) > 0).all()
    assert timeline.edges[-1] == timeline.duration_seconds


def test_a_class_sounds_in_a_frame_where_its_window_says_so_too():
    """Here the clip says a quarter of what its loudest frame says."""
    tagger, _ = loudness(window_seconds=1.0, share=0.25)
    peaks = np.float32([0.05, 0.1, 0.15, 0.4, 0.15, 0.1, 0.05, 0, 0, 0, 0.1, 0.8, 0.6, 0.3, 0.2, 0.2, 0.1, 0, 0, 0.05])
    timeline = tagger.timeline(np.repeat(peaks, 1_600), sample_rate=RATE)
    np.testing.assert_array_equal(timeline.framewise[:, 0], peaks)
    expected = np.concatenate([np.minimum(peaks[:10], np.float32(0.1)), np.minimum(peaks[10:], np.float32(0.2))])
    np.testing.assert_array_equal(timeline.probabilities[:, 0], expected)


def test_windows_say_whatever_the_model_says():
    tagger, model = loudness(window_seconds=1.0)
    assert (tagger.outputs, tagger.seconds_per_frame) == (model.outputs, 0.1)
    heard = list(tagger.windows(ramp(2.5), "embedding", sample_rate=RATE))
    assert [(w.start_seconds, w.end_seconds) for w, _ in heard] == [(0, 1), (1, 2), (1.5, 2.5)]
    assert [said.keys() for _, said in heard] == 3 * [{"embedding"}]
    with pytest.raises(ValueError, match="loudness: this model has no output `local`"):
        next(tagger.windows(ramp(1), "local", sample_rate=RATE))


@pytest.mark.parametrize("seconds", [0.7, 1.05, 2.0, 3.33])
def test_a_recording_has_a_tag_when_one_of_its_windows_has_it(seconds):
    tagger, _ = loudness()
    waveform = ramp(seconds)
    expected = np.float32([waveform.max(), waveform.max() / 2])
    np.testing.assert_array_equal(tagger.probabilities(waveform, sample_rate=RATE)[:2], expected)
    np.testing.assert_array_equal(tagger.timeline(waveform, sample_rate=RATE).clipwise[:2], expected)


def test_the_mean_weighs_each_window_by_the_seconds_it_adds():
    tagger, _ = loudness(window_seconds=1.0)
    waveform = np.concatenate([np.full(RATE, 0.8), np.full(RATE, 0.2), np.full(RATE // 2, 0.4)]).astype(np.float32)
    got = tagger.probabilities(waveform, sample_rate=RATE, pooling="mean")[0]
    # The last window begins half a second earlier, and adds half a second.
    assert got == pytest.approx((0.8 + 0.2 + 0.5 * 0.4) / 2.5)


def test_a_short_recording_is_heard_as_it_is_unless_the_input_is_fixed():
    tagger, model = loudness()
    tagger.tag(np.zeros(5_000, np.float32), sample_rate=RATE)
    assert model.batches == [(1, 5_000)]
    tagger, model = loudness(length=RATE)
    tagger.tag(np.zeros(5_000, np.float32), sample_rate=RATE)
    assert model.batches == [(1, RATE)]


def test_the_last_window_is_not_short():
    tagger, model = loudness(window_seconds=1.0)
    tagger.probabilities(ramp(2.01), sample_rate=RATE)
    shortest = min(samples for _, samples in model.batches)
    assert 0.9 * RATE < shortest <= RATE


def test_many_windows_go_in_bounded_batches():
    tagger, model = loudness(window_seconds=1.0)
    tagger.probabilities(ramp(130), sample_rate=RATE)
    assert sum(count for count, _ in model.batches) == 130
    assert max(count * samples for count, samples in model.batches) <= 40 * RATE


def test_segments_are_whole_and_cover_the_recording():
    tagger, _ = loudness()
    waveform = ramp(2.5)
    got = tagger.embed(waveform, sample_rate=RATE, segment_seconds=1.0)
    starts = [0, RATE, round(1.5 * RATE)]
    np.testing.assert_allclose(got[:, 0], [waveform[s : s + RATE].mean() for s in starts], rtol=1e-5)
    assert (got[:, 1] == RATE).all()


def test_one_embedding_is_the_mean_over_windows():
    tagger, _ = loudness(window_seconds=1.0)
    waveform = np.concatenate([np.full(RATE, 0.5), np.full(RATE, 0.1)]).astype(np.float32)
    np.testing.assert_allclose(tagger.embed(waveform, sample_rate=RATE), [0.3, RATE], rtol=1e-5)


def test_a_file_and_its_samples_give_the_same(tmp_path):
    tagger, _ = loudness()
    waveform = ramp(3.3)
    soundfile.write(tmp_path / "ramp.wav", waveform, RATE, subtype="FLOAT")
    expected = tagger.timeline(waveform, sample_rate=RATE)
    got = tagger.timeline(tmp_path / "ramp.wav")
    np.testing.assert_array_equal(got.probabilities, expected.probabilities)


def test_another_rate_is_resampled():
    tagger, model = loudness()
    sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    assert tagger.tag(sine, sample_rate=44_100, top=1)[0].probability == pytest.approx(0.5, abs=0.01)
    assert model.batches == [(1, RATE)]


def test_tags_are_ordered_cut_and_named():
    tagger, _ = loudness()
    probabilities = np.float32([0.2, 0.9, 0.2])
    assert [tag.name for tag in tagger.best(probabilities)] == ["Rain", "Bark", "Speech"]
    assert tagger.best(probabilities, top=1) == [Tag("Rain", "/m/b", pytest.approx(0.9))]
    assert [tag.mid for tag in tagger.best(probabilities, threshold=0.5)] == ["/m/b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.tag(ramp(1), sample_rate=RATE, top=0), "`top` must be a whole number of at least 1, received 0"),
        (lambda t: t.tag(ramp(1), sample_rate=RATE, threshold=2), r"`threshold` must lie in \[0, 1\], received 2"),
        (lambda t: t.tag(ramp(1)), "`sample_rate` must be given with a waveform"),
        (lambda t: t.tag("x.wav", sample_rate=RATE), "`sample_rate` is for a waveform"),
        (lambda t: t.tag(ramp(1), sample_rate=0), "`sample_rate` must be from 1000 to 1000000 Hz, received 0"),
        (lambda t: t.tag(np.zeros(9, np.int16), sample_rate=RATE), "divide 16-bit samples by 32768"),
        (lambda t: t.tag(ramp(1), sample_rate=RATE, pooling="sum"), "`pooling` must be one of max, mean"),
        (lambda t: t.embed(ramp(1), sample_rate=RATE, segment_seconds=0), "`segment_seconds` must be at least"),
        (lambda t: t.embed(ramp(1), sample_rate=RATE, segment_seconds=np.nan), "`segment_seconds` must be at least"),
    ],
)
def test_arguments_outside_their_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(loudness()[0])


def test_a_segment_longer_than_a_fixed_input_is_refused():
    with pytest.raises(ValueError, match="at least .* and at most 1, received 2"):
        loudness(length=RATE)[0].embed(ramp(3), sample_rate=RATE, segment_seconds=2.0)


def test_what_a_model_lacks_is_said():
    model = Loudness()
    model.outputs = ("embedding",)
    embeds = Tagger(model, Card(None, RATE, 1.0), "vggish.keras")
    with pytest.raises(ValueError, match=r"vggish.keras: this model knows no classes, it only embeds"):
        embeds.tag(ramp(1), sample_rate=RATE)
    with pytest.raises(ValueError, match=r"vggish.keras: this model has no probabilities over time"):
        embeds.timeline(ramp(1), sample_rate=RATE)
    model.outputs = ("clipwise",)
    with pytest.raises(ValueError, match="tags.keras: this model has no output `embedding`"):
        Tagger(model, Card(CLASSES, RATE, 1.0), "tags.keras").embed(ramp(1), sample_rate=RATE)
