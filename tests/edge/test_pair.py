"""An embedder of output frames and a head: a stream of both is that of the whole model, also with a new head."""

import numpy as np
import pytest
from edge.conftest import LABEL
from edge.models import FRAMES_PER_OUTPUT, WINDOW_FRAMES, card, copy_with_card
from edge.test_head_watch import generate_noise
from edge.test_service import RATE

from kerastag.edge.streaming import StreamingTagger

NUM_FRAMES = -(-WINDOW_FRAMES // FRAMES_PER_OUTPUT)
GAINS = (1.0, 2.0)


@pytest.fixture(scope="session")
def files(convert):
    """Return the embedder of the output frames of a second, and for each gain, a head and the whole model."""
    import tensorflow as tf

    def embed(log_mel):
        padded = tf.pad(log_mel, [[0, 0], [0, -WINDOW_FRAMES % FRAMES_PER_OUTPUT], [0, 0]], constant_values=-5.0)
        levels = tf.reduce_mean(tf.reshape(padded, (1, -1, FRAMES_PER_OUTPUT, 64)), axis=2)
        return 5 + tf.stack([tf.reduce_mean(levels, axis=2), tf.reduce_max(levels, axis=2)], axis=2)

    def tag(embedding, gain):
        framewise = tf.sigmoid(gain * (tf.reduce_sum(embedding, axis=2, keepdims=True) - 6))
        return {"clipwise": tf.reduce_mean(framewise, axis=1), "framewise": framewise}

    window = (1, WINDOW_FRAMES, 64)
    fields = {"seconds_per_frame": 0.08, "labels": LABEL}
    embedder = convert(
        "frame_embedder",
        lambda log_mel: {"embedding": embed(log_mel)},
        "log_mel",
        window,
        card(seconds_per_frame=0.08, labels=None),
    )
    heads, models = [], []
    for gain in GAINS:
        head_card = card(**fields, front_end={}, window_seconds=0.08 * NUM_FRAMES)
        head = convert(
            f"frame_head_{gain}",
            lambda embedding, gain=gain: tag(embedding, gain),
            "embedding",
            (1, NUM_FRAMES, 2),
            head_card,
        )
        whole = convert(
            f"frames_whole_{gain}", lambda x, gain=gain: tag(embed(x), gain), "log_mel", window, card(**fields)
        )
        heads.append(head)
        models.append(whole)
    return embedder, heads, models


def check_equal(results, expected):
    assert len(results) == len(expected) > 3
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.probabilities, other.probabilities, rtol=0, atol=1e-6)
        np.testing.assert_allclose(result.framewise, other.framewise, rtol=0, atol=1e-6)
        assert result[:2] == other[:2]
        assert result.framewise_start_seconds == other.framewise_start_seconds


def run_tagger(tagger, noise, block=1_000):
    return [result for start in range(0, len(noise), block) for result in tagger.feed(noise[start:][:block], RATE)]


def test_a_stream_of_both_parts_is_that_of_the_whole_model(files):
    embedder, heads, models = files
    noise = generate_noise(4.3, 0.1)
    taggers = [StreamingTagger(embedder, heads[0], hop_seconds=0.4), StreamingTagger(models[0], hop_seconds=0.4)]
    assert [tagger.mode for tagger in taggers] == ["windowed", "windowed"]
    assert taggers[0].seconds_per_frame == taggers[1].seconds_per_frame == 0.08
    assert (taggers[0].window_seconds, taggers[0].labels) == (1.0, LABEL)
    results, expected = (run_tagger(tagger, noise) + tagger.flush() for tagger in taggers)
    check_equal(results, expected)
    assert np.ptp([result.probabilities[0] for result in results]) > 0.05


def test_a_new_head_takes_the_next_window_and_stays_after_the_end_of_a_stream(files):
    embedder, (old, new), models = files
    noise = generate_noise(4.0, 0.1)
    before, after = (run_tagger(StreamingTagger(model), noise) for model in models)
    tagger = StreamingTagger(embedder, old)
    results = run_tagger(tagger, noise[: 2 * RATE])
    tagger.replace_head(new)
    num_before = len(results)
    results += run_tagger(tagger, noise[2 * RATE :])
    check_equal(results, before[:num_before] + after[num_before:])
    assert np.abs(before[-1].probabilities - after[-1].probabilities) > 0.005
    tagger.flush()
    check_equal(run_tagger(tagger, noise), after)


def test_parts_that_do_not_match_are_named(files, head, embedder, tmp_path):
    frames, (old, _), _ = files
    other = copy_with_card(old, tmp_path, labels=LABEL, seconds_per_frame=0.08, versions={"embedder": "a"})
    tagger = StreamingTagger(frames, old)
    for path, message in (
        (head, r"head\.tflite: must have the classes of the head before, Loud; received: Bark, Rain, Speech"),
        (frames, "must have one input, embedding"),
    ):
        with pytest.raises(ValueError, match=message):
            tagger.replace_head(path)
    with pytest.raises(ValueError, match=r"must take `embedding` \(1, segments, 2\), which .* returns; received: "):
        StreamingTagger(frames, head)
    with pytest.raises(ValueError, match="`mode` must be windowed for .*, which embeds output frames; received: 'incr"):
        StreamingTagger(frames, old, mode="incremental")
    with pytest.raises(ValueError, match="frame_embedder.tflite: must return `clipwise`"):
        StreamingTagger(frames)
    with pytest.raises(ValueError, match="`hop_seconds` must be at most the length of the window, 0.96"):
        StreamingTagger(frames, old, hop_seconds=1.1)
    versions = {"versions": {"embedder": "b"}, "seconds_per_frame": 0.08, "labels": None}
    with pytest.raises(ValueError, match=r"must have the weights whose embeddings .* was trained on \(a\); received"):
        StreamingTagger(copy_with_card(frames, tmp_path, **versions), other)
