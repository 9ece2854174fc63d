"""The audio files that kerastag reads: their extensions, folders of them, and names in lists."""

import os
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

from kerastag.audio.request import AudioWarning

__all__ = ["AUDIO_EXTENSIONS", "find_audio_files", "resolve_listed_path"]

_EXTENSIONS = """
wav wave bwf rf64 bw64 w64 aif aiff aifc au snd caf flac ogg oga ogx opus spx mp1 mp2 mp3 mpga
m4a m4b m4r m4v mp4 aac adts 3gp 3gpp 3ga 3g2 mov qt amr awb wma wmv asf ac3 ec3 eac3 ape wv tta dts
mka mkv webm weba avi flv f4v f4a mpg mpeg mpe vob ts mts m2ts m2t ogv
"""
AUDIO_EXTENSIONS = frozenset(f".{name}" for name in _EXTENSIONS.split())
"""Extensions of files that libsndfile or ffmpeg opens, in lower case; every other file in a folder is passed over."""

_MAX_LISTED_EXTENSIONS = 5


def find_audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Find the audio files in a folder and the folders below it, as sorted relative paths.

    Symbolic links are followed, except to a folder that contains the link. Hidden files and folders are skipped. One
    `AudioWarning` counts the files with other extensions, and another one names each folder that cannot be read.
    """
    root = Path(folder)
    paths: list[Path] = []
    other_extensions: Counter[str] = Counter()

    def warn_unreadable(error: OSError) -> None:
        warnings.warn(f"{error.filename}: cannot be read ({error.strerror})", AudioWarning, stacklevel=2)

    # Of the folders to visit, with those of the folders above them.
    identities: dict[str, tuple[tuple[int, int], ...]] = {str(root): (_identify(root),)}
    for parent, folders, names in os.walk(root, onerror=warn_unreadable, followlinks=True):
        ancestors = identities.pop(parent)
        names = [name for name in names if not name.startswith(".")]
        for name in [name for name in folders if not name.startswith(".")]:
            subfolder = os.path.join(parent, name)  # noqa: PTH118
            identity = _identify(Path(subfolder))
            if identity not in ancestors:
                identities[subfolder] = (*ancestors, identity)
        folders[:] = [name for name in folders if os.path.join(parent, name) in identities]  # noqa: PTH118
        relative = Path(parent).relative_to(root)
        for path in (relative / name for name in names):
            if path.suffix.lower() in AUDIO_EXTENSIONS:
                paths.append(path)
            else:
                other_extensions[path.suffix.lower() or "without an extension"] += 1
    if count := other_extensions.total():
        most_common = [f"{number} {name}" for name, number in sorted(other_extensions.items(), key=_by_number)]
        if len(most_common) > _MAX_LISTED_EXTENSIONS:
            most_common[_MAX_LISTED_EXTENSIONS:] = ["…"]
        noun = "file" if count == 1 else "files"
        warnings.warn(f"{root}: {count} {noun} passed over: {', '.join(most_common)}", AudioWarning, stacklevel=2)
    return sorted(paths, key=Path.as_posix)


def resolve_listed_path(root: str | os.PathLike[str], name: str) -> Path:
    r"""Return the path of the file or folder that a list calls `name`, relative to `root`.

    Lists are written on one computer and read on another: `é` may be one character (NFC) in the list and two (NFD) in
    the name of the file, or the reverse, and folders may be separated by backslashes. A file with exactly this name is
    preferred. If there is no match, the path does not exist.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "cafe\u0301").mkdir()
    >>> (folder / "cafe\u0301" / "a.wav").touch()
    >>> resolve_listed_path(folder, "caf\u00e9\\a.wav").is_file()
    True
    """
    path = Path(root)
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        path = Path(root)
        for part in Path(spelling).parts:
            names = [part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))]
            # Names on disk are in UTF-8, whatever the encoding that Python assumes for them.
            forms = [path / os.fsdecode(name.encode("utf-8", "surrogateescape")) for name in names]
            path = next((form for form in forms if form.exists()), forms[0])
        if path.exists():
            break
    return Path(os.path.normpath(path))


def _identify(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError:  # It has been removed, or may not be entered; the walk reports it.
        return -1, -1
    return status.st_dev, status.st_ino


def _by_number(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
