"""A head that is replaced while a stream runs: the bag and the events stay, and a bad head is refused."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from edge.conftest import LABEL
from edge.models import card, copy_with_card
from edge.test_service import RATE, CollectingSink, FakeSource, split_blocks

from kerastag.card import write_card
from kerastag.edge import head_watch
from kerastag.edge.config import StreamConfig
from kerastag.edge.head_watch import HeadWatcher
from kerastag.edge.service import StreamService, create_rules
from kerastag.edge.sinks import SinkGroup
from kerastag.edge.streaming import StreamingTagger
from kerastag.events import EventRules, EventTracker
from kerastag.labels import LabelSet

GAINS = (0.8, 1.3)
SEGMENTS = 10


@pytest.fixture(scope="session")
def heads(convert, tmp_path_factory):
    """Return a function that returns the path of a head with a gain, whole or split."""
    import tensorflow as tf

    from kerastag.export.tflite import convert_functions

    folder, paths = tmp_path_factory.mktemp("heads"), {}

    def get_head(gain, is_split, segments=SEGMENTS):
        path = folder / f"{gain}_{is_split}_{segments}.tflite"

        def pool(values):
            levels = tf.reduce_max(values, axis=1) + 0.1 * tf.reduce_mean(values, axis=1)
            return {"clipwise": tf.sigmoid(2 * (levels - 3))}

        def tag(embedding):
            return {**pool(gain * embedding), "framewise": tf.sigmoid(2 * (1.1 * gain * embedding - 3))}

        endpoints = {"serving_default": (tag, "embedding", (segments, 1))}
        if is_split:
            endpoints = {
                "segment": (lambda embedding: {"values": gain * embedding}, "embedding", (1, 1)),
                "bag": (pool, "values", (segments, 1)),
            }
        if path not in paths:
            paths[path] = path.write_bytes(convert_functions(endpoints))
            fields = {"window_seconds": 0.24 * segments, "seconds_per_frame": 0.24, "thresholds": (0.3,)}
            write_card(path, card(labels=LABEL, front_end={}, **fields))
        return path

    return get_head


def generate_noise(seconds, level=0.02):
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE)) * level
    return (noise * np.linspace(0.2, 1, len(noise))).astype(np.float32)


@pytest.mark.parametrize("is_split", [False, True])
def test_a_new_head_processes_what_is_remembered_and_the_stream_has_no_gap(loudness_parts, heads, is_split):
    embedder, (old, new) = loudness_parts[0], (heads(gain, is_split) for gain in GAINS)
    noise = generate_noise(4.0)[::-1].copy()  # loud at first, so that the bag decides
    expected_old, expected_new = (StreamingTagger(embedder, head).feed(noise, RATE) for head in (old, new))
    tagger = StreamingTagger(embedder, old)
    results = tagger.feed(noise[: 2 * RATE], RATE)
    num_before = len(results)
    tagger.replace_head(new)
    results += tagger.feed(noise[2 * RATE :], RATE)
    assert 5 < num_before < len(results) - 5
    for k, (result, before, after) in enumerate(zip(results, expected_old, expected_new, strict=True)):
        expected = before if k < num_before else after
        np.testing.assert_allclose(result.probabilities, expected.probabilities, rtol=0, atol=1e-6)
        np.testing.assert_allclose(result.framewise, expected.framewise, rtol=0, atol=1e-6)
        assert result.start_seconds == expected.start_seconds
        assert np.abs(before.probabilities - after.probabilities).max() > 0.02


def test_a_head_that_does_not_match_is_refused_and_the_tagger_is_unchanged(loudness_parts, loud_model, heads, tmp_path):
    embedder, old = loudness_parts[0], heads(GAINS[0], False)
    noise = generate_noise(2.0)
    expected = StreamingTagger(embedder, old).feed(noise, RATE)
    tagger = StreamingTagger(embedder, old)
    results = tagger.feed(noise[:RATE], RATE)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(old.read_bytes()[:-500])
    others = LabelSet.from_names(["Quiet"])
    fields = {"front_end": {}, "seconds_per_frame": 0.24, "window_seconds": 2.4, "labels": others}
    for path, message in (
        (tmp_path / "none.tflite", "none.tflite: no such model"),
        (damaged, "damaged.tflite: "),
        (copy_with_card(old, tmp_path, **fields), "must have the classes of the head before, Loud; received: Quiet"),
        (heads(GAINS[0], False, 8), "must take `embedding` .1, 10, 1. as before; received: .1, 8, 1."),
        (embedder, "embedding"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            tagger.replace_head(path)
    results += tagger.feed(noise[RATE:], RATE)
    for result, same in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.probabilities, same.probabilities)
    with pytest.raises(ValueError, match="`head` must be None for a tagger without one"):
        StreamingTagger(loud_model).replace_head(old)


def test_events_continue_with_the_thresholds_of_a_new_head(loudness_parts, heads, tmp_path, monkeypatch):
    monkeypatch.setattr(head_watch, "_CHECK_SECONDS", 0.0)
    path = tmp_path / "head.tflite"
    path.write_bytes(heads(GAINS[0], True).read_bytes())
    lines, used = [], []

    def replace_between(blocks):
        for number, block in enumerate(blocks):
            if number == 20:
                (tmp_path / "new").write_bytes(heads(GAINS[1], True).read_bytes())
                write_card(tmp_path / "new", card(**{**fields, "thresholds": (0.4,)}))
                os.replace(tmp_path / "new", path)
            if number == 40:
                path.write_bytes(b"TFL3")
            yield block

    fields = {"labels": LABEL, "front_end": {}, "window_seconds": 2.4, "seconds_per_frame": 0.24}
    sink, group = CollectingSink(), SinkGroup()
    group.add(sink)
    config = StreamConfig(model=str(loudness_parts[0]), head=str(path), watch_head=True, queue_seconds=0.1)
    tagger = StreamingTagger(config.model, config.head)
    tracker = EventTracker(1, tagger.seconds_per_frame, create_rules(config, tagger, [0]))
    source = FakeSource(replace_between(split_blocks(generate_noise(6.0, 0.3))))
    service = StreamService(
        tagger, tracker, [0], source, group, config, lines.append, head_watcher=HeadWatcher(config.head)
    )
    write_result = sink.write_result
    sink.write_result = lambda report: (used.append(tracker.rules.onset_thresholds[0]), write_result(report))
    service.run()
    assert [name for name, _ in itertools.groupby(used)] == [0.3, 0.4]
    assert sink.log == ["Loud begin", "Loud end"]
    assert lines[0] == f"{path}: changed; the new head is in use"
    assert len(lines) > 1
    for line in lines[1:]:  # of the damaged file, which may be read before all of it is written
        assert line.startswith(f"{path}: not a .tflite model")
        assert line.endswith("; the previous head stays in use")


def test_a_file_has_changed_once_it_no_longer_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(head_watch, "_CHECK_SECONDS", 0.0)
    path = Path(tmp_path / "head.tflite")
    path.write_bytes(b"old")
    watcher = HeadWatcher(path)
    assert [watcher.check(), watcher.check()] == [False, False]
    for content in (b"n", b"ne", b"new"):
        path.write_bytes(content)
        assert not watcher.check()
    assert [watcher.check(), watcher.check()] == [True, False]
    path.unlink()
    assert [watcher.check(), watcher.check()] == [False, False]
    path.write_bytes(b"another")
    assert [watcher.check(), watcher.check(), watcher.check()] == [False, True, False]


def test_other_smoothing_ends_events_and_other_rules_do_not():
    tracker = EventTracker(1, 1.0, EventRules(0.5, 0.5))
    assert len(tracker.update(0.0, [[0.9], [0.9]])) == 1
    assert tracker.replace_rules(EventRules(0.6, 0.6, min_seconds=2.0)) == []
    assert tracker.update(2.0, [[0.7], [0.65]]) == []
    (end,) = tracker.replace_rules(EventRules(0.6, 0.6, smoothing_seconds=3.0))
    assert (end.onset_seconds, end.offset_seconds) == (0.0, 4.0)
    (begin, end) = [*tracker.update(4.0, [[0.9], [0.9], [0.1]]), *tracker.flush()]
    assert (begin.onset_seconds, end.offset_seconds) == (4.0, 6.0)
    with pytest.raises(ValueError, match="`onset_thresholds` must be one number or 1; received: 2"):
        tracker.replace_rules(EventRules((0.5, 0.5), 0.1))


def test_only_a_head_can_be_watched():
    with pytest.raises(ValueError, match="`watch_head` must be used with `head`"):
        StreamConfig(watch_head=True)
