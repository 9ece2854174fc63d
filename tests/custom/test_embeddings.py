"""Embeddings of clips, and their cache."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.card import Card, write_card
from kerastag.custom import CustomConfig
from kerastag.custom.clips import load_clips
from kerastag.custom.embeddings import embed_clips, load_backbone, make_bag
from kerastag.custom.tagger import Bags
from kerastag.data.audio_lists import Recording
from kerastag.labels import LabelSet


@pytest.fixture(scope="module")
def clips(recordings):
    return load_clips(CustomConfig(audio_dir=str(recordings), background="none"), 32_000).select(np.arange(0, 27, 8))


@pytest.fixture(scope="module")
def embedded(backbone, clips, tmp_path_factory):
    """Return a loaded backbone, the embeddings of the clips, and the folder of their cache."""
    loaded, folder = load_backbone(backbone), tmp_path_factory.mktemp("cache")
    return loaded, embed_clips(loaded, clips, 30.0, folder), folder


@pytest.mark.parametrize("row", [0, 1])
def test_the_classifier_of_the_backbone_on_a_bag_of_frames_predicts_each_frame(backbone, clips, embedded, row):
    model = keras.saving.load_model(backbone, compile=False)
    waveform = audio.load(clips.audio[row].path, 32_000)
    logits = model.get_layer("fc_audioset")(model.get_layer("fc1")(embedded[1].bags["frames"][row]))
    framewise = np.asarray(model(waveform[None])["framewise"][0])
    np.testing.assert_allclose(keras.ops.sigmoid(logits), framewise, atol=1e-5)


@pytest.mark.parametrize("row", [0, 1])
def test_a_bag_of_seconds_holds_the_embedding_of_each_second(backbone, clips, embedded, row):
    model = keras.saving.load_model(backbone, compile=False)
    waveform = audio.load(clips.audio[row].path, 32_000)
    bag = embedded[1].bags["seconds"][row]
    assert len(bag) == (len(waveform) + 16_000) // 32_000
    np.testing.assert_allclose(bag[0], model(waveform[None, :32_000])["embedding"][0], atol=1e-4)
    np.testing.assert_allclose(embedded[1].clip[row], model(waveform[None])["embedding"][0], atol=1e-4)


@pytest.mark.parametrize("kind", ["frames", "seconds"])
def test_padded_bags_end_with_zeros(embedded, clips, kind):
    bags, padded = embedded[1].bags[kind], Bags.pad(embedded[1].bags[kind], clips.targets).x
    for bag, row in zip(bags, padded, strict=True):
        np.testing.assert_array_equal(row[: len(bag)], bag)
        assert not row[len(bag) :].any()


def check_equal(a, b):
    for kind in ("frames", "seconds"):
        for bag, other in zip(a.bags[kind], b.bags[kind], strict=True):
            np.testing.assert_array_equal(bag, other)
    np.testing.assert_array_equal(a.clip, b.clip)
    assert (a.is_readable.tolist(), a.errors) == (b.is_readable.tolist(), b.errors)


def test_embeddings_are_read_from_the_cache(embedded, clips, monkeypatch):
    monkeypatch.setattr("kerastag.custom.embeddings._compute_embeddings", None)
    check_equal(embed_clips(embedded[0], clips, 30.0, embedded[2]), embedded[1])


def set_compression(content):
    """Return a zip archive whose members have an unknown compression method."""
    for signature, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content = content[: start + offset] + b"\x63\0" + content[start + offset + 2 :]
    return content


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\x93NUMPY" + content[6:],
        lambda content: content[:200] + bytes(200) + content[400:],
        set_compression,
    ],
    ids=["empty", "truncated", "another format", "overwritten", "unknown compression"],
)
def test_a_damaged_cache_is_replaced(embedded, clips, tmp_path, monkeypatch, damage):
    path = next(embedded[2].glob("*.npz"))
    (tmp_path / path.name).write_bytes(damage(path.read_bytes()))
    monkeypatch.setattr("kerastag.custom.embeddings._compute_embeddings", lambda *_: embedded[1])
    check_equal(embed_clips(embedded[0], clips, 30.0, tmp_path), embedded[1])
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_clips_that_cannot_be_read_are_skipped_and_named(embedded, clips, tmp_path, capsys, monkeypatch):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio")
    unreadable = clips.select(np.array([0, 0]))
    unreadable = replace(unreadable, audio=(Recording(bad, "bad.wav", (0,)), unreadable.audio[1]))
    for _ in range(2):  # computed, then from the cache
        embeddings = embed_clips(embedded[0], unreadable, 30.0, tmp_path)
        assert embeddings.is_readable.tolist() == [False, True]
        assert "skipped: " in (error := capsys.readouterr().err)
        assert "bad.wav" in error
        assert "skipped: 1 of 2 recordings" in error
    monkeypatch.setattr("kerastag.custom.embeddings._compute_embeddings", lambda *_: embeddings.select(np.array([0])))
    with pytest.raises(ValueError, match=r"no recording of bursts can be read: .*bad\.wav"):
        embed_clips(embedded[0], unreadable.select(np.array([0])), 30.0, tmp_path)


def test_a_long_recording_is_one_bag_of_all_its_windows(embedded, clips, recordings, tmp_path):
    """The sound is in the last second of 9.2, of which windows of 4 s are embedded."""
    sound = audio.load(clips.audio[0].path, 32_000)[:32_000]
    waveform = np.concatenate([np.zeros(8 * 32_000, np.float32), sound, np.zeros(6_400, np.float32)])
    soundfile.write(tmp_path / "long.wav", waveform, 32_000, "FLOAT")
    with_long = replace(clips, audio=(Recording(tmp_path / "long.wav", "long.wav", (0,)), *clips.audio[1:]))
    embeddings = embed_clips(embedded[0], with_long, 4.0, tmp_path)
    assert embeddings.num_windows.tolist() == [3, *[1] * (len(clips) - 1)]
    assert len(embeddings.bags["seconds"][0]) == 9
    expected = embedded[1].bags["seconds"][0][0]
    np.testing.assert_allclose(embeddings.bags["seconds"][0][8], expected, rtol=1e-4, atol=1e-4)
    check_equal(embed_clips(embedded[0], with_long, 4.0, tmp_path), embeddings)


def test_segments_of_a_very_long_bag_are_averaged_where_they_are_alike():
    random = np.random.default_rng(0)
    bag = random.normal(0, 0.01, (5000, 4)).astype(np.float32)
    bag[4000] = 5.0
    merged = make_bag([bag[:100], bag[100:]], max_segments=50)
    assert merged.shape == (100, 4)
    assert merged.dtype == np.float32
    assert (merged == 5.0).all(axis=1).sum() == 1
    np.testing.assert_array_equal(make_bag([bag[:3000], bag[3000:]], 5000), bag)


def test_a_cache_of_other_clips_is_replaced(embedded, clips, tmp_path, monkeypatch):
    path = next(embedded[2].glob("*.npz"))
    monkeypatch.setattr("kerastag.custom.embeddings._read_cache", lambda _: embedded[1].select(np.array([0])))
    monkeypatch.setattr("kerastag.custom.embeddings._compute_embeddings", lambda *_: embedded[1])
    check_equal(embed_clips(embedded[0], clips, 30.0, tmp_path), embedded[1])
    assert (tmp_path / path.name).is_file()


def test_a_model_without_embeddings_is_not_a_backbone(tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model.save(tmp_path / "dense.keras")
    write_card(tmp_path / "dense.keras", Card(LabelSet.from_names(["a", "b"]), 8000, 1.0))
    with pytest.raises(ValueError, match=r"dense\.keras: must take waveforms and predict `framewise` and `embedding`"):
        load_backbone(tmp_path / "dense.keras")
