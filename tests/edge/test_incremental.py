"""Incremental streaming against the whole: log-mel of the recording, its segments, the bag, the Keras network."""

import numpy as np
import pytest
from edge.models import FEATURES, FRONT_END, SEGMENT_FRAMES, card, weights

from kerastag.card import write_card
from kerastag.edge import LiteRTModel, StreamingTagger

RATE = 16_000
SEGMENT = SEGMENT_FRAMES / 100
# 25 whole segments and a quarter of one.
NOISE = (0.1 * np.random.default_rng(0).standard_normal(96_960 + 240)).astype(np.float32)
KERAS = 5e-6  # two float32 libraries apart
SILENCE = FRONT_END.log_mel(np.zeros(RATE, np.float32))[0]


def embed(rows):
    matrix = weights(SEGMENT_FRAMES * 64, FEATURES, seed=2)
    return np.tanh(rows.reshape(-1).astype(np.float64) @ matrix).astype(np.float32)


def embeddings(waveform, hop=SEGMENT_FRAMES):
    log_mel = FRONT_END.log_mel(waveform)
    starts = range(0, len(log_mel) - SEGMENT_FRAMES + 1, hop)
    return np.stack([embed(log_mel[start : start + SEGMENT_FRAMES]) for start in starts])


def stream(tagger, waveform, block=700, **arguments):
    starts = range(0, len(waveform), block)
    return [result for start in starts for result in tagger.feed(waveform[start:][:block], RATE, **arguments)]


def test_it_equals_the_keras_network_on_the_last_ten_segments(embedder, head, head_network):
    segments = embeddings(NOISE)
    fed = stream(StreamingTagger(embedder, head), NOISE)
    assert len(fed) == len(segments) == 25
    spread = np.ptp([result.probabilities for result in fed], axis=0)
    assert (spread > 0.05).all(), "probabilities that hardly change prove little"
    for index, result in enumerate(fed):
        bag = segments[max(0, index - 9) : index + 1]
        # The network hears the segments as they are, without the padding that the ring has.
        expected = head_network.predict_on_batch(bag[None])
        np.testing.assert_allclose(result.probabilities, expected["clipwise"][0], rtol=0, atol=KERAS)
        np.testing.assert_allclose(result.framewise, expected["framewise"][0, -1:], rtol=0, atol=KERAS)
        assert result.end_seconds == pytest.approx(SEGMENT * (index + 1))
        assert result.start_seconds == pytest.approx(SEGMENT * max(0, index - 9))
        assert result.framewise_start_seconds == pytest.approx(SEGMENT * index)


def test_it_equals_the_same_files_on_the_whole_recording(embedder, head):
    """Log-mel of everything, each of its segments embedded, the last ten heard together."""
    log_mel, embeds, tags = FRONT_END.log_mel(NOISE), LiteRTModel(embedder), LiteRTModel(head)
    segments = [embeds(log_mel[None, start : start + SEGMENT_FRAMES])["embedding"][0] for start in range(0, 600, 24)]
    for index, result in enumerate(stream(StreamingTagger(embedder, head), NOISE)):
        bag = np.zeros((1, 10, FEATURES), np.float32)
        last = segments[max(0, index - 9) : index + 1]
        bag[0, : len(last)] = last
        outputs = tags(bag)
        np.testing.assert_allclose(result.probabilities, outputs["clipwise"][0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(result.framewise, outputs["framewise"][0, len(last) - 1 :][:1], rtol=0, atol=1e-6)


def test_overlapping_segments(embedder, head, head_network):
    segments = embeddings(NOISE, hop=10)
    tagger = StreamingTagger(embedder, head, hop_seconds=0.1)
    assert tagger.seconds_per_frame == tagger.hop_seconds == pytest.approx(0.1)
    assert tagger.window_seconds == pytest.approx(SEGMENT + 0.9)
    fed = stream(tagger, NOISE[:20_000])
    for index, result in enumerate(fed):
        expected = head_network.predict_on_batch(segments[None, max(0, index - 9) : index + 1])
        np.testing.assert_allclose(result.probabilities, expected["clipwise"][0], rtol=0, atol=KERAS)
        assert result.framewise_start_seconds == pytest.approx(0.1 * index)


@pytest.mark.parametrize(("rest", "is_segment"), [(11, False), (12, True), (23, True)])
def test_a_rest_of_half_a_segment_is_one(embedder, head, head_network, rest, is_segment):
    waveform = NOISE[: (2 * SEGMENT_FRAMES + rest - 1) * 160 + 400]
    tagger = StreamingTagger(embedder, head)
    assert len(stream(tagger, waveform)) == 2
    last = tagger.flush()
    assert len(last) == is_segment
    if is_segment:
        log_mel = FRONT_END.log_mel(waveform)[2 * SEGMENT_FRAMES :]
        padded = np.concatenate([log_mel, np.broadcast_to(SILENCE, (SEGMENT_FRAMES - rest, 64))])
        bag = np.concatenate([embeddings(waveform), embed(padded)[None]])
        expected = head_network.predict_on_batch(bag[None])["clipwise"][0]
        np.testing.assert_allclose(last[0].probabilities, expected, rtol=0, atol=KERAS)


def test_a_stream_shorter_than_half_a_segment_says_something(embedder, head):
    tagger = StreamingTagger(embedder, head)
    assert not stream(tagger, NOISE[:500])
    assert len(tagger.flush()) == 1
    assert not tagger.flush(), "an empty stream has nothing to say"


def test_after_a_gap_the_bag_holds_what_was_heard_in_its_time(embedder, head, head_network):
    """Three segments; five are missing, so the first segment after them knows the three; then fifty are missing."""
    tagger = StreamingTagger(embedder, head)
    length = SEGMENT_FRAMES * 160
    first = stream(tagger, NOISE[: 3 * length + 240])
    after = tagger.feed(NOISE[: length + 240], RATE, lost_samples=5 * length - 240)
    assert len(first) == 3
    assert [round(result.end_seconds / SEGMENT) for result in after] == [9]
    bag = np.concatenate([embeddings(NOISE)[:3], embeddings(NOISE)[:1]])
    expected = head_network.predict_on_batch(bag[None])["clipwise"][0]
    np.testing.assert_allclose(after[0].probabilities, expected, rtol=0, atol=KERAS)
    assert after[0].start_seconds == 0
    later = tagger.feed(NOISE[: length + 240], RATE, lost_samples=50 * length - 240)
    alone = head_network.predict_on_batch(embeddings(NOISE)[None, :1])["clipwise"][0]
    np.testing.assert_allclose(later[0].probabilities, alone, rtol=0, atol=KERAS)
    assert later[0].start_seconds == pytest.approx(later[0].end_seconds - SEGMENT)


def test_eight_bit_embeddings_are_scaled_as_the_packs_are(embedder, head, head_network):
    scaled = (embeddings(NOISE[:20_000]) - 128) / 128
    fed = stream(StreamingTagger(embedder, head, eight_bit=True), NOISE[:20_000])
    expected = head_network.predict_on_batch(scaled[None])["clipwise"][0]
    np.testing.assert_allclose(fed[-1].probabilities, expected, rtol=0, atol=KERAS)


def with_card(model, folder, **fields):
    """The same file with another card."""
    path = folder / model.name
    path.write_bytes(model.read_bytes())
    write_card(path, card(**fields))
    return path


def test_the_head_says_how_far_apart_segments_are(embedder, head, tmp_path):
    """An embedder of 0.24 s and a head of 0.236 s: so much may a front end hear beyond a segment."""
    near = with_card(head, tmp_path, front_end={}, seconds_per_frame=0.236)
    assert StreamingTagger(embedder, near).hop_seconds == pytest.approx(0.24)
    assert StreamingTagger(embedder, near, hop_seconds=0.1).hop_seconds == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"seconds_per_frame": 0.96},
            r"head.tflite: was trained on segments of 0.96 s, .*embedder.tflite hears 0.24 s",
        ),
        (
            {"seconds_per_frame": 0.25},
            r"head.tflite: was trained on segments of 0.25 s, .*embedder.tflite hears 0.24 s",
        ),
        ({"front_end": {"name": "panns"}}, r"head.tflite: was trained on embeddings from panns log-mel, .* has vggish"),
        (
            {"versions": {"embedder": "b1"}},
            r"head.tflite: was trained on embeddings of other weights \(b1\) than .*\(a0",
        ),
    ],
)
def test_a_pair_that_does_not_fit_is_one_line(embedder, head, tmp_path, fields, message):
    other = with_card(head, tmp_path, **fields)
    hears = with_card(embedder, tmp_path, labels=None, window_seconds=SEGMENT_FRAMES / 100, versions={"embedder": "a0"})
    with pytest.raises(ValueError, match=message) as caught:
        StreamingTagger(hears, other)
    assert "\n" not in str(caught.value)
    pair = with_card(head, tmp_path, seconds_per_frame=SEGMENT_FRAMES / 100, versions={"embedder": "a0"})
    assert stream(StreamingTagger(hears, pair), NOISE[:8_000])
