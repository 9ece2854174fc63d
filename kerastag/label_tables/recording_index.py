"""Look up recordings by the names that tables give them."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from kerastag.audio.formats import AUDIO_EXTENSIONS


class RecordingIndex:
    """Names of recordings, to be looked up by the names in a table.

    Tables name recordings with or without their folders and extension, with backslashes, in another normalization of
    Unicode, or by their absolute path on another computer.

    Args:
        names: Names of the recordings, relative paths.

    >>> RecordingIndex(["dev/1.wav", "dev/2.wav"]).find("2")
    1
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            self._names.append(name)
            parts = _normalize(name).split("/")
            for first in range(len(parts)):
                suffix = "/".join(parts[first:])
                stem, dot, extension = suffix.rpartition(".")
                has_extension = f"{dot}{extension.lower()}" in AUDIO_EXTENSIONS
                for key in (suffix, stem) if has_extension else (suffix,):
                    self._numbers.setdefault(key, []).append(number)
        self._exact = {_normalize(name): number for number, name in enumerate(self._names)}

    def find(self, name: str) -> int | None:
        """Return the number of the recording with this name, or None; several of that name are a ValueError.

        Folders of the computer that wrote the table are ignored in an absolute path, but in no other one.
        """
        name = _normalize(name)
        if name in self._exact:
            return self._exact[name]
        parts = name.split("/")
        is_absolute = name.startswith("/") or re.match("[A-Za-z]:/", name)
        for first in range(len(parts) if is_absolute else 1):
            if numbers := self._numbers.get("/".join(parts[first:])):
                if len(numbers) > 1:
                    names = " and ".join(self._names[number] for number in numbers[:2])
                    raise ValueError(f"{name!r} must be the name of one recording; received: that of {names}")
                return numbers[0]
        return None

    def find_table(self, path: Path) -> int | None:
        """Return the number of the recording that a table without names describes, by the name of the table.

        It is the only recording, or the one with the longest name that the table's begins with: `a.wav` for `a.txt`,
        `a.Table.1.selections.txt` and `a_labels.txt`.
        """
        if len(self._names) == 1:
            return 0
        stem = _normalize(path.name).rpartition(".")[0]
        ends = [match.start() for match in re.finditer(r"[._-]|$", stem)]
        return next((number for end in reversed(ends) if (number := self.find(stem[:end])) is not None), None)


def _normalize(name: str) -> str:
    return re.sub(r"^(\./)+", "", unicodedata.normalize("NFC", name.replace("\\", "/")))
