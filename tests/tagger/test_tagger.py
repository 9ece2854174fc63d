"""Windows and lengths of recordings, with a model whose outputs are known."""

import numpy as np
import pytest
import soundfile

from kerastag.card import Card
from kerastag.labels import LabelSet
from kerastag.tagger import Tag, Tagger

SAMPLE_RATE = 16_000
CLASSES = LabelSet(("/m/a", "/m/b", "/m/c"), ("Bark", "Rain", "Speech"))


class Loudness:
    """A model that predicts the largest sample of each frame for class 0, and half of it for class 1.

    Class 2 has probability 0, except 1 in a last, partial frame, like an artifact of its padding. The probability of
    the clip is the maximum of its frames, or a share of it. The embedding is (mean, number of samples).
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


def make_tagger(window_seconds=1.05, **options):
    model = Loudness(**options)
    return Tagger(model, Card(CLASSES, SAMPLE_RATE, window_seconds, seconds_per_frame=0.1), "loudness"), model


def make_ramp(seconds):
    """Return a waveform whose samples increase, so that each has its own value."""
    samples = round(seconds * SAMPLE_RATE)
    return np.linspace(0, 0.9, samples, dtype=np.float32)


@pytest.mark.parametrize("seconds", [0.03, 0.7, 1.05, 1.06, 2.0, 2.05, 3.33, 47.0, 100.0])
@pytest.mark.parametrize("fixed", [False, True])
def test_the_frames_of_all_windows_lie_on_one_grid(seconds, fixed):
    tagger, _ = make_tagger(length=round(1.05 * SAMPLE_RATE) if fixed else None)
    waveform = make_ramp(seconds)
    timeline = tagger.predict_timeline(waveform, sample_rate=SAMPLE_RATE)
    count = -(-len(waveform) // 1_600)
    np.testing.assert_allclose(timeline.seconds, 0.1 * np.arange(count), atol=1e-9)
    peaks = [waveform[start : start + 1_600].max() for start in range(0, len(waveform), 1_600)]
    np.testing.assert_array_equal(timeline.probabilities[:, 0], np.float32(peaks))
    # Only the last frame of the recording may be partial: all others come from windows that contain them whole.
    assert not timeline.probabilities[:-1, 2].any()
    assert timeline.duration_seconds == pytest.approx(seconds, abs=1 / SAMPLE_RATE)
    assert (np.diff(timeline.edges) > 0).all()
    assert timeline.edges[-1] == timeline.duration_seconds


def test_the_probability_of_a_frame_is_limited_by_its_window():
    """Here the probability of a clip is a quarter of that of its loudest frame."""
    tagger, _ = make_tagger(window_seconds=1.0, share=0.25)
    peaks = np.float32([0.05, 0.1, 0.15, 0.4, 0.15, 0.1, 0.05, 0, 0, 0, 0.1, 0.8, 0.6, 0.3, 0.2, 0.2, 0.1, 0, 0, 0.05])
    timeline = tagger.predict_timeline(np.repeat(peaks, 1_600), sample_rate=SAMPLE_RATE)
    np.testing.assert_array_equal(timeline.framewise[:, 0], peaks)
    expected = np.concatenate([np.minimum(peaks[:10], np.float32(0.1)), np.minimum(peaks[10:], np.float32(0.2))])
    np.testing.assert_array_equal(timeline.probabilities[:, 0], expected)


def test_windows_have_any_output_of_the_model():
    tagger, model = make_tagger(window_seconds=1.0)
    assert (tagger.outputs, tagger.seconds_per_frame) == (model.outputs, 0.1)
    windows = list(tagger.predict_windows(make_ramp(2.5), "embedding", sample_rate=SAMPLE_RATE))
    assert [(w.start_seconds, w.end_seconds) for w, _ in windows] == [(0, 1), (1, 2), (1.5, 2.5)]
    assert [outputs.keys() for _, outputs in windows] == 3 * [{"embedding"}]
    with pytest.raises(
        ValueError, match="loudness: must have the output `local`; received: clipwise, framewise, embedding"
    ):
        next(tagger.predict_windows(make_ramp(1), "local", sample_rate=SAMPLE_RATE))


@pytest.mark.parametrize("seconds", [0.7, 1.05, 2.0, 3.33])
def test_a_recording_has_a_tag_when_one_of_its_windows_has_it(seconds):
    tagger, _ = make_tagger()
    waveform = make_ramp(seconds)
    expected = np.float32([waveform.max(), waveform.max() / 2])
    np.testing.assert_array_equal(tagger.predict(waveform, sample_rate=SAMPLE_RATE)[:2], expected)
    np.testing.assert_array_equal(tagger.predict_timeline(waveform, sample_rate=SAMPLE_RATE).clipwise[:2], expected)


def test_the_mean_weights_each_window_by_the_seconds_it_adds():
    tagger, _ = make_tagger(window_seconds=1.0)
    waveform = np.concatenate(
        [np.full(SAMPLE_RATE, 0.8), np.full(SAMPLE_RATE, 0.2), np.full(SAMPLE_RATE // 2, 0.4)]
    ).astype(np.float32)
    result = tagger.predict(waveform, sample_rate=SAMPLE_RATE, pooling="mean")[0]
    # The last window starts half a second earlier and adds half a second.
    assert result == pytest.approx((0.8 + 0.2 + 0.5 * 0.4) / 2.5)


def test_a_short_recording_is_padded_only_where_the_input_length_is_fixed():
    tagger, model = make_tagger()
    tagger.tag(np.zeros(5_000, np.float32), sample_rate=SAMPLE_RATE)
    assert model.batches == [(1, 5_000)]
    tagger, model = make_tagger(length=SAMPLE_RATE)
    tagger.tag(np.zeros(5_000, np.float32), sample_rate=SAMPLE_RATE)
    assert model.batches == [(1, SAMPLE_RATE)]


def test_the_last_window_is_not_short():
    tagger, model = make_tagger(window_seconds=1.0)
    tagger.predict(make_ramp(2.01), sample_rate=SAMPLE_RATE)
    shortest = min(samples for _, samples in model.batches)
    assert 0.9 * SAMPLE_RATE < shortest <= SAMPLE_RATE


def test_many_windows_are_processed_in_bounded_batches():
    tagger, model = make_tagger(window_seconds=1.0)
    tagger.predict(make_ramp(130), sample_rate=SAMPLE_RATE)
    assert sum(count for count, _ in model.batches) == 130
    assert max(count * samples for count, samples in model.batches) <= 40 * SAMPLE_RATE


def test_segments_have_equal_length_and_cover_the_recording():
    tagger, _ = make_tagger()
    waveform = make_ramp(2.5)
    result = tagger.embed(waveform, sample_rate=SAMPLE_RATE, segment_seconds=1.0)
    starts = [0, SAMPLE_RATE, round(1.5 * SAMPLE_RATE)]
    np.testing.assert_allclose(result[:, 0], [waveform[s : s + SAMPLE_RATE].mean() for s in starts], rtol=1e-5)
    assert (result[:, 1] == SAMPLE_RATE).all()


def test_one_embedding_is_the_mean_over_windows():
    tagger, _ = make_tagger(window_seconds=1.0)
    waveform = np.concatenate([np.full(SAMPLE_RATE, 0.5), np.full(SAMPLE_RATE, 0.1)]).astype(np.float32)
    np.testing.assert_allclose(tagger.embed(waveform, sample_rate=SAMPLE_RATE), [0.3, SAMPLE_RATE], rtol=1e-5)


def test_a_file_and_its_samples_give_the_same(tmp_path):
    tagger, _ = make_tagger()
    waveform = make_ramp(3.3)
    soundfile.write(tmp_path / "ramp.wav", waveform, SAMPLE_RATE, subtype="FLOAT")
    expected = tagger.predict_timeline(waveform, sample_rate=SAMPLE_RATE)
    result = tagger.predict_timeline(tmp_path / "ramp.wav")
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)


def test_a_waveform_of_another_sample_rate_is_resampled():
    tagger, model = make_tagger()
    sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    assert tagger.tag(sine, sample_rate=44_100, top=1)[0].probability == pytest.approx(0.5, abs=0.01)
    assert model.batches == [(1, SAMPLE_RATE)]


def test_tags_are_sorted_limited_and_named():
    tagger, _ = make_tagger()
    probabilities = np.float32([0.2, 0.9, 0.2])
    assert [tag.name for tag in tagger.select_tags(probabilities)] == ["Rain", "Bark", "Speech"]
    assert tagger.select_tags(probabilities, top=1) == [Tag("Rain", "/m/b", pytest.approx(0.9))]
    assert [tag.mid for tag in tagger.select_tags(probabilities, threshold=0.5)] == ["/m/b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t: t.tag(make_ramp(1), sample_rate=SAMPLE_RATE, top=0),
            "`top` must be an integer of at least 1; received: 0",
        ),
        (
            lambda t: t.tag(make_ramp(1), sample_rate=SAMPLE_RATE, threshold=2),
            r"`threshold` must be in \[0, 1\]; received: 2",
        ),
        (lambda t: t.tag(make_ramp(1)), "`sample_rate` must be given for a waveform; received: None"),
        (
            lambda t: t.tag("x.wav", sample_rate=SAMPLE_RATE),
            "`sample_rate` must be None for a file, which has its own; received: 16000",
        ),
        (
            lambda t: t.tag(make_ramp(1), sample_rate=0),
            "`sample_rate` must be an integer from 1000 to 1000000 Hz; received: 0",
        ),
        (lambda t: t.tag(np.zeros(9, np.int16), sample_rate=SAMPLE_RATE), "divide 16-bit samples by 32768"),
        (lambda t: t.tag(make_ramp(1), sample_rate=SAMPLE_RATE, pooling="sum"), "`pooling` must be one of max, mean"),
        (
            lambda t: t.embed(make_ramp(1), sample_rate=SAMPLE_RATE, segment_seconds=0),
            "`segment_seconds` must be at least",
        ),
        (
            lambda t: t.embed(make_ramp(1), sample_rate=SAMPLE_RATE, segment_seconds=np.nan),
            "`segment_seconds` must be at least",
        ),
    ],
)
def test_arguments_out_of_range_are_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_tagger()[0])


def test_a_segment_longer_than_a_fixed_input_is_rejected():
    with pytest.raises(ValueError, match="at least .* and at most 1; received: 2"):
        make_tagger(length=SAMPLE_RATE)[0].embed(make_ramp(3), sample_rate=SAMPLE_RATE, segment_seconds=2.0)


def test_a_model_without_an_output_is_rejected_with_its_name():
    model = Loudness()
    model.outputs = ("embedding",)
    tagger = Tagger(model, Card(None, SAMPLE_RATE, 1.0), "vggish.keras")
    with pytest.raises(ValueError, match=r"vggish.keras: must have classes; received: a model of embeddings"):
        tagger.tag(make_ramp(1), sample_rate=SAMPLE_RATE)
    with pytest.raises(
        ValueError,
        match=r"vggish.keras: must have the output `framewise`, probabilities over time; received: embedding",
    ):
        tagger.predict_timeline(make_ramp(1), sample_rate=SAMPLE_RATE)
    model.outputs = ("clipwise",)
    with pytest.raises(ValueError, match="tags.keras: must have the output `embedding`; received: clipwise"):
        Tagger(model, Card(CLASSES, SAMPLE_RATE, 1.0), "tags.keras").embed(make_ramp(1), sample_rate=SAMPLE_RATE)
