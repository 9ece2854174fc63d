"""The classes of a model: their order, names and identifiers."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kerastag._csv import read_records, read_text

__all__ = ["LabelSet"]

# They could change a terminal, or end a line of a file too early; text without surrogates can always be written.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_AUDIOSET = Path(__file__).with_name("audioset_classes.tsv")


@dataclass(frozen=True)
class LabelSet:
    """The classes of a model, in the order of its outputs.

    Args:
        mids: Identifiers of the classes (AudioSet's MIDs, or the names again), unique and not empty.
        names: Display names of the classes, unique and not empty.

    Raises:
        ValueError: There is no class, the lengths differ, or an entry is empty or repeated.

    >>> from kerastag import LabelSet
    >>> labels = LabelSet.audioset()
    >>> len(labels), labels.names[0], labels.index("/m/09x0r"), labels.index("Telephone")
    (527, 'Speech', 0, 389)
    """

    mids: tuple[str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mids", tuple(self.mids))
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise ValueError("`names` must contain at least one class; received: none")
        if len(self.mids) != len(self.names):
            raise ValueError(
                f"`mids` and `names` must have equal lengths; received: {len(self.mids)} and {len(self.names)}"
            )
        for field, values in (("mids", self.mids), ("names", self.names)):
            indices: dict[str, int] = {}
            for i, value in enumerate(values):
                if not isinstance(value, str) or not value.strip():
                    raise ValueError(f"`{field}` must contain non-empty text; received: {value!r} for class {i}")
                if _UNPRINTABLE.search(value):
                    raise ValueError(f"`{field}` must have no control characters; received: {value!r} for class {i}")
                if (first := indices.setdefault(value, i)) != i:
                    raise ValueError(f"`{field}` must be unique; received: {value!r} for classes {first} and {i}")

    @classmethod
    @functools.cache
    def audioset(cls) -> LabelSet:
        """Return AudioSet's 527 classes in the official order."""
        rows = [line.split("\t") for line in _AUDIOSET.read_text(encoding="utf-8").splitlines()]
        return cls(tuple(mid for mid, _ in rows), tuple(name for _, name in rows))

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelSet:
        """Create a label set from class names in order, which are also the identifiers."""
        if isinstance(names, str):
            raise ValueError(f"`names` must be a list of class names; received: {names!r}")
        names = tuple(names)
        return cls(names, names)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> LabelSet:
        """Read a label set from a class list.

        Args:
            path: Path of a CSV file with the columns `index,mid,display_name` (AudioSet's own), or of a text file with
                one class name per line.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: An index is not the next one, a row has too few columns, or an entry is empty or repeated.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        text = read_text(path)
        header = re.match(r"index([,;\t])mid\1display_name\s", text, re.IGNORECASE)
        rows = list(read_records(path, text, header[1] if header else "\t"))
        try:
            if header:
                pairs = list(_official_rows(rows[1:]))
                return cls(tuple(mid for mid, _ in pairs), tuple(name for _, name in pairs))
            return cls.from_names(_single_column(rows))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def index(self, name_or_mid: str) -> int:
        """Return the index of a class by its display name or identifier.

        Raises:
            ValueError: There is no such class; the message proposes those whose name contains the text.
        """
        index = self._indices.get(name_or_mid)
        if index is None:
            similar = [name for name in self.names if str(name_or_mid).lower() in name.lower()][:5]
            hint = f"; did you mean {', '.join(map(repr, similar))}?" if similar else ""
            raise ValueError(f"`name_or_mid` must be one of {len(self)} classes; received: {name_or_mid!r}{hint}")
        return index

    @functools.cached_property
    def _indices(self) -> dict[str, int]:
        by_mid = {mid: i for i, mid in enumerate(self.mids)}
        return by_mid | {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)


def _official_rows(rows: list[tuple[int, list[str]]]) -> Iterator[tuple[str, str]]:
    for index, (line, row) in enumerate(rows):
        if len(row) != 3:
            raise ValueError(f"line {line}: must have 3 columns; received: {len(row)}")
        if row[0] != str(index):
            raise ValueError(f"line {line}: index must be {index}; received: {row[0][:40]!r}")
        yield row[1], row[2]


def _single_column(rows: list[tuple[int, list[str]]]) -> Iterator[str]:
    for line, row in rows:
        if len(row) != 1 or re.search(r",\S", row[0]):  # A comma in a name has a space after it.
            expected = "one class name (or a header index,mid,display_name)"
            raise ValueError(f"line {line}: must be {expected}; received: {','.join(row)[:80]!r}")
        yield row[0]
