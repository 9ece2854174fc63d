"""Addresses of recordings for the players of a page, relative to it."""

import os
from pathlib import Path
from urllib.parse import quote

__all__ = ["make_relative_url"]


def make_relative_url(path: str | os.PathLike[str], folder: Path, seconds: float = 0.0) -> str:
    """Make the address of a file for a page in a folder, which also works when the page is opened from disk.

    Bytes of file names that are not UTF-8 are kept. On Windows, a file on another drive has an absolute address.

    Args:
        path: Path of the file.
        folder: Folder of the page.
        seconds: Time at which a player starts, at least 0 s.

    >>> make_relative_url("/sounds/Dog #1/a b.wav", Path("/runs/mine"), 12.5)
    '../../sounds/Dog%20%231/a%20b.wav#t=12.5'
    """
    path = Path(path).absolute()
    try:
        relative = Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive
        url = path.as_uri()
    else:
        url = quote(os.fsencode(relative))
    return f"{url}#t={seconds:g}" if seconds > 0 else url
