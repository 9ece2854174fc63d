"""The pool of recordings without labels: which recordings are in it, and how its alarms are counted."""

from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile

from kerastag.card import Card
from kerastag.custom.embedding_cache import EmbeddingCache
from kerastag.custom.embeddings import PretrainedBackbone
from kerastag.data.audio_lists import Recording
from kerastag.review.pool import Pool, embed_pool, find_recordings


def make_pool(names):
    parts = tuple(
        Recording(Path(f"/{name}.wav"), name, (), start_seconds=5.0 * k, end_seconds=5.0 * k + 5)
        for k, name in enumerate(names)
    )
    return Pool(parts, (np.zeros((5, 2), np.float32),) * len(parts))


def test_neighboring_parts_with_an_alarm_of_one_class_have_one_alarm():
    pool = make_pool("aaaabb")
    is_alarm = np.array([[1, 0], [1, 1], [0, 1], [1, 1], [1, 0], [1, 1]], bool)
    assert pool.count_runs(is_alarm) == 5
    assert pool.count_runs(np.ones((6, 2), bool)) == 4  # one of each class in each recording
    assert pool.count_runs(np.zeros((6, 2), bool)) == 0
    assert pool.hours == pytest.approx(30 / 3600)


def test_a_recording_is_in_the_pool_once_and_clips_of_the_run_are_not(tmp_path):
    for name in ("a.wav", "b.wav", "notes.txt"):
        soundfile.write(tmp_path / name, np.zeros(8000), 8000, format="WAV")
    (tmp_path / "link").symlink_to(tmp_path)
    recordings = find_recordings([tmp_path / "link", tmp_path / "a.wav"], {(tmp_path / "b.wav").resolve()})
    assert recordings == [(tmp_path / "a.wav").resolve()]
    with pytest.raises(ValueError, match="`recordings` must have at least one recording that is not a clip of the run"):
        find_recordings([tmp_path / "a.wav"], {(tmp_path / "a.wav").resolve()})
    with pytest.raises(FileNotFoundError, match=r"none\.wav: no such recording or folder"):
        find_recordings([tmp_path / "none.wav"], ())


@pytest.mark.parametrize(("kind", "lengths"), [("frames", [20, 10]), ("seconds", [2, 1])])
def test_a_recording_is_embedded_and_written_to_the_cache_once(tmp_path, monkeypatch, kind, lengths):
    waveform = keras.Input((None,))
    hop = 100 if kind == "frames" else 1_000
    embedder = keras.Model(waveform, keras.layers.Reshape((-1, hop))(waveform))
    (tmp_path / "model.keras").write_bytes(b"its digest is a part of the key")
    backbone = PretrainedBackbone(Card(None, 1_000, 2.0), tmp_path / "model.keras", {kind: embedder}, embedder)
    soundfile.write(tmp_path / "a.wav", np.arange(3_000) / 3_000, 1_000, subtype="FLOAT")

    def embed():
        return embed_pool(backbone, [tmp_path / "a.wav"], 2, tmp_path / "cache.sqlite", kind=kind)

    def refuse(*_):
        raise AssertionError

    pool = embed()
    monkeypatch.setattr(EmbeddingCache, "write", refuse)
    monkeypatch.setattr(keras.Model, "predict_on_batch", refuse)
    again = embed()
    assert again.parts == pool.parts
    assert [len(bag) for bag in again.bags] == lengths
    for bag, other in zip(again.bags, pool.bags, strict=True):
        np.testing.assert_array_equal(bag, other)
