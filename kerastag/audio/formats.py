"""The audio files that kerastag reads, by extension."""

import os
from pathlib import Path

__all__ = ["AUDIO_EXTENSIONS", "find_audio_files"]

AUDIO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf", "w64", "rf64"),
        *("m4a", "m4v", "mp4", "aac", "amr", "wma", "webm", "mkv", "mov", "avi", "3gp"),
    )
)
"""Extensions of files that libsndfile or ffmpeg opens, in lower case; every other file in a folder is skipped."""


def find_audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Find the audio files in a folder and the folders below it, without hidden ones, as sorted relative paths."""
    root = Path(folder)
    paths = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(parent).relative_to(root)
        paths += [relative / name for name in names if not name.startswith(".")]
    return sorted((path for path in paths if path.suffix.lower() in AUDIO_EXTENSIONS), key=Path.as_posix)
