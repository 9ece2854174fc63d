"""The classes a model knows: their order, names and identifiers."""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LabelSet"]

_AUDIOSET = Path(__file__).with_name("audioset_classes.tsv")


@dataclass(frozen=True)
class LabelSet:
    """Class identifiers and display names -> class indices, and back.

    Args:
        mids: identifiers in class order (AudioSet's MIDs, or the names again); unique, not empty.
        names: display names in class order; unique, not empty.

    Raises:
        ValueError: no class, lengths that differ, an empty or repeated entry.

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
            raise ValueError("`names` must hold at least one class, received none")
        if len(self.mids) != len(self.names):
            raise ValueError(
                f"`mids` and `names` must have equal lengths, received {len(self.mids)} and {len(self.names)}"
            )
        for field, values in (("mids", self.mids), ("names", self.names)):
            _check_entries(field, values)

    @classmethod
    @functools.cache
    def audioset(cls) -> LabelSet:
        """AudioSet's 527 classes in the official order."""
        rows = [line.split("\t") for line in _AUDIOSET.read_text(encoding="utf-8").splitlines()]
        return cls(tuple(mid for mid, _ in rows), tuple(name for _, name in rows))

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelSet:
        """Class names in order -> a label set in which they are the identifiers too."""
        if isinstance(names, str):
            raise ValueError(f"`names` must be a list of class names, received the text {names!r}")
        names = tuple(names)
        return cls(names, names)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> LabelSet:
        """A class list -> a label set.

        Args:
            path: a CSV with the columns `index,mid,display_name` (AudioSet's own), or a text file with
                one class name a line.

        Raises:
            FileNotFoundError: no such file.
            ValueError: an index that is not the next one, a row too short, an empty or repeated entry.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such class list")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.reader(file, skipinitialspace=True))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a text file in UTF-8") from error
        try:
            if rows and [cell.strip() for cell in rows[0]] == ["index", "mid", "display_name"]:
                pairs = list(_official_rows(rows[1:]))
                return cls(tuple(mid for mid, _ in pairs), tuple(name for _, name in pairs))
            return cls.from_names(_single_column(rows))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def index(self, name_or_mid: str) -> int:
        """A display name or an identifier -> the class index.

        Raises:
            ValueError: no such class; the message proposes those that contain the text.
        """
        found = self._indices.get(name_or_mid)
        if found is None:
            near = [name for name in self.names if str(name_or_mid).lower() in name.lower()][:5]
            hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"`name_or_mid` must be one of {len(self)} classes, received {name_or_mid!r}{hint}")
        return found

    @functools.cached_property
    def _indices(self) -> dict[str, int]:
        by_mid = {mid: i for i, mid in enumerate(self.mids)}
        return by_mid | {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)


def _check_entries(field: str, values: tuple[str, ...]) -> None:
    seen: dict[str, int] = {}
    for i, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"`{field}` must hold non-empty text, received {value!r} for class {i}")
        if value in seen:
            raise ValueError(f"`{field}` must be unique, received {value!r} for classes {seen[value]} and {i}")
        seen[value] = i


def _official_rows(rows: list[list[str]]) -> Iterator[tuple[str, str]]:
    for line, row in enumerate(rows, start=2):
        if len(row) != 3:
            raise ValueError(f"line {line}: 3 columns are expected, received {len(row)}")
        if row[0].strip() != str(line - 2):
            raise ValueError(f"line {line}: index {line - 2} is expected, received {row[0]!r}")
        yield row[1].strip(), row[2].strip()


def _single_column(rows: list[list[str]]) -> Iterator[str]:
    for line, row in enumerate(rows, start=1):
        if len(row) != 1 or not row[0].strip():
            raise ValueError(
                f"line {line}: one class name is expected, received {','.join(row)!r} "
                "(or a header index,mid,display_name)"
            )
        yield row[0].strip()
