"""Audio files of a folder, by extension."""

import os
import unicodedata
from pathlib import Path

import pytest

from checks import ASCII_LOCALE, needs_unicode_names, run_python
from kerastag.audio import AUDIO_EXTENSIONS, AudioWarning, find_audio_files, resolve_listed_path


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_audio_files_are_paths_a_folder_in_order(tmp_path):
    names = ["b/z.wav", "b/a.FLAC", "a.mp3", "c.d/e.Opus", "b-1.ogg", "phone.3gp", "phone.3gpp", "tv.mka", "old.wma"]
    touch(tmp_path, *names, "b/.hidden.wav", ".git/x.wav", "b/.part.wav/y.wav", ".hidden.txt")
    assert find_audio_files(str(tmp_path)) == [Path(name) for name in sorted(names)]


def test_files_with_other_extensions_are_counted_in_one_warning(tmp_path):
    touch(tmp_path, "a.wav", "b/a.txt", "c/b.TXT", "notes.doc", "wav", ".hidden.txt")
    with pytest.warns(AudioWarning) as caught:
        assert find_audio_files(tmp_path) == [Path("a.wav")]
    message = f"{tmp_path}: 4 files passed over: 2 .txt, 1 .doc, 1 without an extension"
    assert [str(warning.message) for warning in caught] == [message]
    many = tmp_path / "many"
    touch(many, *(f"{letter}.x{letter}" for letter in "abcdefg"))
    with pytest.warns(AudioWarning, match=r"7 files passed over: 1 \.xa, 1 \.xb, 1 \.xc, 1 \.xd, 1 \.xe, …$"):
        assert find_audio_files(many) == []


def test_symbolic_links_are_followed_except_around_a_loop(tmp_path):
    touch(tmp_path, "disk/rain/a.wav", "sounds/dog/b.wav")
    (tmp_path / "sounds/rain").symlink_to(tmp_path / "disk/rain")
    (tmp_path / "sounds/c.wav").symlink_to(tmp_path / "disk/rain/a.wav")
    (tmp_path / "sounds/loop").symlink_to(tmp_path / "sounds")
    (tmp_path / "disk/rain/back").symlink_to(tmp_path)
    paths = find_audio_files(tmp_path / "sounds")
    assert [path.as_posix() for path in paths if "back" not in path.parts] == ["c.wav", "dog/b.wav", "rain/a.wav"]
    assert len(paths) < 10


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    touch(tmp_path, "a.wav", "locked/b.wav")
    (tmp_path / "locked").chmod(0)
    with pytest.warns(AudioWarning, match="locked: cannot be read"):
        assert find_audio_files(tmp_path) == [Path("a.wav")]
    (tmp_path / "locked").chmod(0o700)


@needs_unicode_names
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_list", ["NFC", "NFD"])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_names_of_a_list_match_files_in_either_normalization_and_with_backslashes(
    tmp_path, on_disk, in_list, separator
):
    name = unicodedata.normalize(on_disk, "Türen/Gebäude/é 1.wav")
    touch(tmp_path, name)
    listed = unicodedata.normalize(in_list, f"Türen{separator}Gebäude{separator}é 1.wav")
    assert resolve_listed_path(tmp_path, listed) == tmp_path / name
    assert resolve_listed_path("/", str(tmp_path / listed)) == tmp_path / name


def test_names_of_a_list_match_files_where_python_assumes_ascii_names(tmp_path):
    code = r"""
import os
from kerastag.audio import resolve_listed_path
with open("caf\xe9.wav".encode(), "wb"):
    pass
print(resolve_listed_path(".", "cafe\u0301.wav").is_file(), ascii(resolve_listed_path(".", "\xe8.wav").name))
"""
    assert run_python(code, ASCII_LOCALE, cwd=tmp_path).split() == ["True", r"'\udcc3\udca8.wav'"]


@needs_unicode_names
def test_the_exact_name_of_a_list_is_preferred(tmp_path):
    touch(tmp_path, "a\\b.wav", "a/b.wav", "e\u0301.wav", "\u00e9.wav")
    for name in ("a\\b.wav", "a/b.wav", "e\u0301.wav", "\u00e9.wav"):
        assert resolve_listed_path(tmp_path, name) == tmp_path / name
    assert resolve_listed_path(tmp_path, "a/../c.wav") == tmp_path / "c.wav"
    assert not resolve_listed_path(tmp_path, "x\\y.wav").exists()


def test_a_folder_named_like_an_audio_file_is_not_one(tmp_path):
    (tmp_path / "a.wav").mkdir()
    (tmp_path / "a.wav" / "b.wav").touch()
    assert find_audio_files(tmp_path) == [Path("a.wav/b.wav")]


def test_extensions_are_lower_case_with_a_dot():
    assert all(extension == f".{extension[1:].lower()}" for extension in AUDIO_EXTENSIONS)
