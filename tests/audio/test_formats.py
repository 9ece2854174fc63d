"""Audio files of a folder, by extension."""

from pathlib import Path

from kerastag.audio import AUDIO_EXTENSIONS, find_audio_files


def test_audio_files_are_found_below_a_folder_in_order(tmp_path):
    names = ["b/z.wav", "b/a.FLAC", "a.mp3", "c.d/e.Opus", "b-1.ogg"]
    for name in [*names, "a.txt", "wav", "b/.hidden.wav", ".git/x.wav", "b/.part.wav/y.wav"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_audio_files(str(tmp_path)) == [Path(name) for name in sorted(names)]


def test_a_folder_named_like_an_audio_file_is_not_one(tmp_path):
    (tmp_path / "a.wav").mkdir()
    (tmp_path / "a.wav" / "b.wav").touch()
    assert find_audio_files(tmp_path) == [Path("a.wav/b.wav")]


def test_extensions_are_lower_case_with_a_dot():
    assert all(extension == f".{extension[1:].lower()}" for extension in AUDIO_EXTENSIONS)
