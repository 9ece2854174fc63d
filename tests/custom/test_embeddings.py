"""Embeddings of clips, and their cache."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.card import Card, write_card
from kerastag.custom import CustomConfig
from kerastag.custom import embeddings as embeddings_module
from kerastag.custom.clips import load_clips
from kerastag.custom.embeddings import CACHE_NAME, embed_clips, load_backbone, make_bag
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


def test_quiet_copies_have_a_level_that_depends_on_the_clip_alone(embedded, clips, tmp_path):
    loud = embedded[1]
    quiet = embed_clips(embedded[0], clips, 30.0, tmp_path, gain_db=40.0)
    assert all(not np.allclose(a, b) for a, b in zip(loud.bags["seconds"], quiet.bags["seconds"], strict=True))
    order = np.arange(len(clips))[::-1]
    again = embed_clips(embedded[0], clips.select(order), 30.0, tmp_path / "other", gain_db=40.0)
    for a, b in zip(again.bags["seconds"][::-1], quiet.bags["seconds"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    both = replace(loud, quiet_bags=quiet.bags).select(order[:1])
    np.testing.assert_array_equal(both.quiet_bags["seconds"][0], quiet.bags["seconds"][-1])


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


@pytest.fixture
def computed_rows(monkeypatch):
    """Return a list that gets the rows of the clips that are computed, not read from the cache."""
    rows, read_ahead = [], embeddings_module._read_ahead

    def record(clips, missing, *options):
        rows.extend(missing)
        return read_ahead(clips, missing, *options)

    monkeypatch.setattr(embeddings_module, "_read_ahead", record)
    return rows


def test_embeddings_are_read_from_the_cache(embedded, clips, computed_rows):
    check_equal(embed_clips(embedded[0], clips, 30.0, embedded[2]), embedded[1])
    assert computed_rows == []


def test_only_new_clips_are_embedded(embedded, clips, tmp_path, computed_rows):
    shutil.copy(embedded[2] / CACHE_NAME, tmp_path)
    new = np.zeros(40_000, np.float32)
    more = replace(clips.select(np.array([0, 1, 2, 3, 0])), audio=(clips.audio[2], new, *clips.audio[:2], new))
    embeddings = embed_clips(embedded[0], more, 30.0, tmp_path)
    assert computed_rows == [1, 4]
    np.testing.assert_array_equal(embeddings.bags["seconds"][0], embedded[1].bags["seconds"][2])
    assert embed_clips(embedded[0], more, 20.0, tmp_path).num_windows.tolist() == [1] * 5
    assert computed_rows == [1, 4, 0, 1, 2, 3, 4]


def test_every_clip_gets_what_it_gets_alone_in_any_order_and_batch(embedded, clips, tmp_path):
    order = np.array([3, 1, 0, 2])
    embeddings = embed_clips(embedded[0], clips.select(order), 30.0, tmp_path)
    for row, original in enumerate(order):
        for kind in ("frames", "seconds"):
            expected = embedded[1].bags[kind][original]
            np.testing.assert_allclose(embeddings.bags[kind][row], expected, rtol=1e-4, atol=1e-4)


def test_clips_that_cannot_be_read_are_skipped_and_named(embedded, clips, tmp_path, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio")
    unreadable = clips.select(np.array([0, 0]))
    unreadable = replace(unreadable, audio=(Recording(bad, "bad.wav", (0,)), unreadable.audio[1]))
    for _ in range(2):  # A clip that cannot be read is not in the cache.
        embeddings = embed_clips(embedded[0], unreadable, 30.0, tmp_path)
        assert embeddings.is_readable.tolist() == [False, True]
        assert "skipped: " in (error := capsys.readouterr().err)
        assert "bad.wav" in error
        assert "skipped: 1 of 2 recordings" in error
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


def test_a_model_without_embeddings_is_not_a_backbone(tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model.save(tmp_path / "dense.keras")
    write_card(tmp_path / "dense.keras", Card(LabelSet.from_names(["a", "b"]), 8000, 1.0))
    with pytest.raises(ValueError, match=r"dense\.keras: must take waveforms and predict `framewise` and `embedding`"):
        load_backbone(tmp_path / "dense.keras")
