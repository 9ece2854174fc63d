"""Packs of the embeddings of an archive."""

import numpy as np
import pytest
import soundfile
from archive.conftest import RATE

from kerastag.archive import ArchiveSettings, pack_embeddings, write_archive
from kerastag.cli import main
from kerastag.data import open_pack, read_audio_list
from kerastag.tagger import Tagger


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the name of a folder with one folder per class, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, seconds in {"cat/a": 3, "cat/b": 1, "dog/c": 2}.items():
        path = tmp_path / "sounds" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, seconds * RATE), RATE)
    (tmp_path / "sounds" / "dog" / "broken.wav").write_bytes(b"no audio")
    return "sounds"


def test_a_pack_has_the_segments_and_the_labels_of_each_recording(folder, tmp_path, capsys):
    settings = ArchiveSettings(top=1, embeddings=True, segment_seconds=1.0)
    write_archive([folder], "out", "esc10", settings, jobs=1, shard_files=2)
    command = ["pack", "embeddings", "--archive", "out", "--audio-dir", folder, "--output", "a.h5"]
    assert main([*command, "--num-segments", "2"]) == 0
    output = capsys.readouterr()
    assert "3 clips, 1 truncated, 1 skipped" in output.out
    assert "skipped: dog/broken.wav" in output.err
    with open_pack(tmp_path / "a.h5") as pack:
        x, lengths, targets = pack.rows([0, 1, 2])
        assert [name.decode() for name in pack.ids] == ["cat/a.wav", "cat/b.wav", "dog/c.wav"]
        assert pack.labels.names == ("cat", "dog")
    assert lengths.tolist() == [2, 1, 2]
    assert targets.tolist() == [[True, False], [True, False], [False, True]]
    tagger = Tagger.load("esc10")
    np.testing.assert_array_equal(x[0], tagger.embed("sounds/cat/a.wav", segment_seconds=1.0)[:2])
    assert not x[1, 1].any()


def test_an_archive_without_embeddings_is_refused(folder):
    write_archive([folder], "out", "esc10", jobs=1)
    with pytest.raises(ValueError, match="out: must be an archive with embeddings, from --embeddings; received: none"):
        pack_embeddings("out", read_audio_list(folder), "a.h5")
