"""The audio files that kerastag reads: their extensions, folders of them, and names in lists."""

import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from kerastag.audio.request import AudioWarning

__all__ = ["AUDIO_EXTENSIONS", "find_audio_files", "is_audio_name", "resolve_listed_path", "scan_files"]

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
    paths: list[Path] = []
    other_extensions: Counter[str] = Counter()

    def warn_unreadable(error: OSError) -> None:
        warnings.warn(f"{error.filename}: cannot be read ({error.strerror})", AudioWarning, stacklevel=2)

    for name, _ in scan_files(folder, warn_unreadable):
        path = Path(name)
        if is_audio_name(name):
            paths.append(path)
        else:
            other_extensions[path.suffix.lower() or "without an extension"] += 1
    if count := other_extensions.total():
        most_common = [f"{number} {name}" for name, number in sorted(other_extensions.items(), key=_by_number)]
        if len(most_common) > _MAX_LISTED_EXTENSIONS:
            most_common[_MAX_LISTED_EXTENSIONS:] = ["…"]
        noun = "file" if count == 1 else "files"
        warnings.warn(
            f"{Path(folder)}: {count} {noun} passed over: {', '.join(most_common)}", AudioWarning, stacklevel=2
        )
    return sorted(paths, key=Path.as_posix)


def is_audio_name(name: str) -> bool:
    """Return whether the name of a file has one of `AUDIO_EXTENSIONS`."""
    start = name.rfind(".")
    return start > 0 and name[start:].lower() in AUDIO_EXTENSIONS and name[start - 1] != "/"


def scan_files(
    folder: str | os.PathLike[str], report_error: Callable[[OSError], object]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Scan a folder and the folders below it; a million files take seconds.

    Args:
        folder: Folder to scan.
        report_error: Function that takes the error of a folder that cannot be read.

    Yields:
        Relative path of each file that is not hidden, with forward slashes, and its entry, in any order. Symbolic links
        are followed, except to a folder that contains the link.
    """
    root = os.fspath(folder)
    # Each folder to scan, with the prefix of its names and the identities of the folders above it.
    stack: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", (_identify(Path(root)),))]
    while stack:
        parent, prefix, ancestors = stack.pop()
        try:
            entries = list(os.scandir(parent))
        except OSError as error:
            report_error(error)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            if not is_folder:
                yield prefix + entry.name, entry
            elif (identity := _identify(Path(entry.path))) not in ancestors:
                stack.append((entry.path, f"{prefix}{entry.name}/", (*ancestors, identity)))


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
