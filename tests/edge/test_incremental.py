"""Incremental streaming, compared with the same computation on the whole recording."""

import numpy as np
import pytest
from edge.models import FEATURES, FRONT_END, SEGMENT_FRAMES, copy_with_card, weights

from kerastag.dsp import FRONT_ENDS
from kerastag.edge import StreamingTagger

RATE = 16_000
SEGMENT = SEGMENT_FRAMES / 100
# 25 whole segments and a quarter of one.
NOISE = (0.1 * np.random.default_rng(0).standard_normal(96_960 + 240)).astype(np.float32)
KERAS = 5e-6  # tolerance between two libraries with float32
SILENCE = FRONT_END.compute_log_mel(np.zeros(RATE, np.float32))[0]


def compute_embedding(rows):
    matrix = weights(SEGMENT_FRAMES * 64, FEATURES, seed=2)
    return np.tanh(rows.reshape(-1).astype(np.float64) @ matrix).astype(np.float32)


def compute_embeddings(waveform, hop=SEGMENT_FRAMES):
    log_mel = FRONT_END.compute_log_mel(waveform)
    starts = range(0, len(log_mel) - SEGMENT_FRAMES + 1, hop)
    return np.stack([compute_embedding(log_mel[start : start + SEGMENT_FRAMES]) for start in starts])


def predict(head_network, bags):
    return {name: np.asarray(output) for name, output in head_network(bags, training=False).items()}


def predict_some(head_network, segments):
    """Yield indices of segments with the probabilities of the bag that ends there, and of its last segment.

    The network takes the segments without the padding that follows them in the bag.
    """
    for index in (0, 4):
        outputs = predict(head_network, segments[None, : index + 1])
        yield index, outputs["clipwise"][0], outputs["framewise"][0, -1:]
    outputs = predict(head_network, np.stack([segments[end - 10 : end] for end in range(10, len(segments) + 1)]))
    for index, clipwise in enumerate(outputs["clipwise"]):
        yield index + 9, clipwise, outputs["framewise"][index, -1:]


def run_stream(tagger, waveform, block=700, **arguments):
    starts = range(0, len(waveform), block)
    return [result for start in starts for result in tagger.feed(waveform[start:][:block], RATE, **arguments)]


def test_results_equal_the_keras_network_on_the_last_ten_segments(embedder, head, head_network):
    segments = compute_embeddings(NOISE)
    results = run_stream(StreamingTagger(embedder, head), NOISE)
    assert len(results) == len(segments) == 25
    spread = np.ptp([result.probabilities for result in results], axis=0)
    assert (spread > 0.05).all(), "probabilities that hardly change prove nothing"
    for index, clipwise, framewise in predict_some(head_network, segments):
        np.testing.assert_allclose(results[index].probabilities, clipwise, rtol=0, atol=KERAS)
        np.testing.assert_allclose(results[index].framewise, framewise, rtol=0, atol=KERAS)
    for index, result in enumerate(results):
        assert result.end_seconds == pytest.approx(SEGMENT * (index + 1))
        assert result.start_seconds == pytest.approx(SEGMENT * max(0, index - 9))
        assert result.framewise_start_seconds == pytest.approx(SEGMENT * index)


def test_segments_can_overlap(embedder, head, head_network):
    segments = compute_embeddings(NOISE, hop=10)
    tagger = StreamingTagger(embedder, head, hop_seconds=0.1)
    assert tagger.seconds_per_frame == tagger.hop_seconds == pytest.approx(0.1)
    assert tagger.window_seconds == pytest.approx(SEGMENT + 0.9)
    results = run_stream(tagger, NOISE[:20_000])
    for index, clipwise, _ in predict_some(head_network, segments[: len(results)]):
        np.testing.assert_allclose(results[index].probabilities, clipwise, rtol=0, atol=KERAS)
        assert results[index].framewise_start_seconds == pytest.approx(0.1 * index)


@pytest.mark.parametrize(("rest", "is_segment"), [(11, False), (12, True), (23, True)])
def test_a_rest_of_at_least_half_a_segment_is_padded(embedder, head, head_network, rest, is_segment):
    waveform = NOISE[: (2 * SEGMENT_FRAMES + rest - 1) * 160 + 400]
    tagger = StreamingTagger(embedder, head)
    assert len(run_stream(tagger, waveform)) == 2
    last = tagger.flush()
    assert len(last) == is_segment
    assert not tagger.flush(), "an empty stream has no result"
    assert not run_stream(tagger, NOISE[:500])
    assert len(tagger.flush()) == 1, "a stream shorter than half a segment has a result"
    if is_segment:
        log_mel = FRONT_END.compute_log_mel(waveform)[2 * SEGMENT_FRAMES :]
        padded = np.concatenate([log_mel, np.broadcast_to(SILENCE, (SEGMENT_FRAMES - rest, 64))])
        bag = np.concatenate([compute_embeddings(waveform), compute_embedding(padded)[None]])
        expected = predict(head_network, bag[None])["clipwise"][0]
        np.testing.assert_allclose(last[0].probabilities, expected, rtol=0, atol=KERAS)


def test_after_a_gap_the_bag_holds_the_segments_of_the_last_ten_positions(embedder, head, head_network):
    """Three segments; five are missing, after which the three are still in the bag; then fifty are missing."""
    tagger = StreamingTagger(embedder, head)
    length = SEGMENT_FRAMES * 160
    first = run_stream(tagger, NOISE[: 3 * length + 240])
    after = tagger.feed(NOISE[: length + 240], RATE, lost_samples=5 * length - 240)
    assert len(first) == 3
    assert [round(result.end_seconds / SEGMENT) for result in after] == [9]
    bag = np.concatenate([compute_embeddings(NOISE)[:3], compute_embeddings(NOISE)[:1]])
    expected = predict(head_network, bag[None])["clipwise"][0]
    np.testing.assert_allclose(after[0].probabilities, expected, rtol=0, atol=KERAS)
    assert after[0].start_seconds == 0
    later = tagger.feed(NOISE[: length + 240], RATE, lost_samples=50 * length - 240)
    alone = predict(head_network, compute_embeddings(NOISE)[None, :1])["clipwise"][0]
    np.testing.assert_allclose(later[0].probabilities, alone, rtol=0, atol=KERAS)
    assert later[0].start_seconds == pytest.approx(later[0].end_seconds - SEGMENT)


def test_eight_bit_embeddings_are_scaled_like_those_of_packs(embedder, head, head_network):
    scaled = (compute_embeddings(NOISE[:20_000]) - 128) / 128
    results = run_stream(StreamingTagger(embedder, head, eight_bit=True), NOISE[:20_000])
    expected = predict(head_network, scaled[None])["clipwise"][0]
    np.testing.assert_allclose(results[-1].probabilities, expected, rtol=0, atol=KERAS)


def test_the_card_of_the_head_has_the_hop(embedder, head, tmp_path):
    """An embedder of 0.24 s and a head of 0.236 s match: a front end may need that much more than a segment."""
    near = copy_with_card(head, tmp_path, front_end={}, seconds_per_frame=0.236)
    assert StreamingTagger(embedder, near).hop_seconds == pytest.approx(0.24)
    assert StreamingTagger(embedder, near, hop_seconds=0.1).hop_seconds == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds_per_frame": 0.25}, "take segments as long as those that .*head.tflite .* 0.25 s; received: 0.24 s"),
        (
            {"front_end": FRONT_ENDS["panns"].as_dict(), "sample_rate": 32_000},
            "front end that .*head.tflite was .* panns; received: vggish",
        ),
        ({"versions": {"embedder": "b1"}}, r"have the weights .*head.tflite was .* \(b1\); received: a0"),
    ],
)
def test_a_pair_that_does_not_match_is_an_error_of_one_line(embedder, head, tmp_path, fields, message):
    other_head = copy_with_card(head, tmp_path, **fields)
    other_embedder = copy_with_card(embedder, tmp_path, labels=None, window_seconds=0.24, versions={"embedder": "a0"})
    with pytest.raises(ValueError, match=f"embedder.tflite: must .*{message}") as error_info:
        StreamingTagger(other_embedder, other_head)
    assert "\n" not in str(error_info.value)
    pair = copy_with_card(head, tmp_path, seconds_per_frame=SEGMENT_FRAMES / 100, versions={"embedder": "a0"})
    assert run_stream(StreamingTagger(other_embedder, pair), NOISE[:8_000])
