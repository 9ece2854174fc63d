"""Model cards: classes, thresholds, front end, sample rate, window and origin of a model.

A card is a JSON file inside the model, in every format, and is read without a framework.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from kerastag.files import atomic_path, write_bytes
from kerastag.labels import LabelSet

__all__ = ["MEMBER", "Card", "write_card"]

MEMBER = "kerastag.json"
"""Name of the card inside a model."""

_SAVED_MODEL_FOLDER = "assets.extra"
_DEFAULT_THRESHOLD = 0.1
_FORMAT = 1
_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Card:
    """Everything that one needs to use a model, apart from its weights.

    Args:
        labels: Classes in the order of the outputs; None for a model that only computes embeddings.
        sample_rate: Sample rate of the waveform that the model takes, above 0 Hz.
        window_seconds: Length of one clip, above 0 s.
        seconds_per_frame: Distance from one output frame to the next, above 0 s; None for a model without output
            frames.
        front_end: Fields of the `FrontEnd`, from its `as_dict`.
        thresholds: Probability in [0, 1] from which a class counts as present, one per class; None is 0.1 for each.
        thresholds_origin: Source of the thresholds.
        origin: Source of the weights.
        versions: Versions of the packages that wrote the model, by name.

    Raises:
        ValueError: A field is out of range.

    >>> from kerastag import LabelSet
    >>> Card(LabelSet.from_names(["Bark", "Rain"]), 32000, 10.0, 0.32).thresholds
    (0.1, 0.1)
    """

    labels: LabelSet | None
    sample_rate: int
    window_seconds: float
    seconds_per_frame: float | None = None
    front_end: Mapping[str, Any] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None
    thresholds_origin: str = "default"
    origin: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels is not None and not isinstance(self.labels, LabelSet):
            raise ValueError(f"`labels` must be a LabelSet or None; received: {type(self.labels).__name__}")
        if not isinstance(self.sample_rate, int) or isinstance(self.sample_rate, bool) or self.sample_rate < 1:
            raise ValueError(f"`sample_rate` must be an integer above 0; received: {self.sample_rate!r}")
        _check_seconds("window_seconds", self.window_seconds)
        if self.seconds_per_frame is not None:
            _check_seconds("seconds_per_frame", self.seconds_per_frame)
        for name in ("thresholds_origin", "origin"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"`{name}` must be text; received: {getattr(self, name)!r}")
        for name in ("front_end", "versions"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"`{name}` must be a dictionary; received: {getattr(self, name)!r}")
        names = () if self.labels is None else self.labels.names
        values = (_DEFAULT_THRESHOLD,) * len(names) if self.thresholds is None else tuple(self.thresholds)
        if len(values) != len(names):
            raise ValueError(f"`thresholds` must be one per class, {len(names)}; received: {len(values)}")
        for name, value in zip(names, values, strict=True):
            if isinstance(value, bool | str) or value is None or not 0 <= value <= 1:
                raise ValueError(f"`thresholds` must be in [0, 1]; received: {value!r} for {name}")
        object.__setattr__(self, "thresholds", tuple(float(value) for value in values))

    def as_dict(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        labels = self.labels
        return {
            **vars(self),
            "format": _FORMAT,
            "labels": None if labels is None else {"mids": list(labels.mids), "names": list(labels.names)},
            "thresholds": list(self.thresholds or ()),
            "front_end": dict(self.front_end),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Create a card from the result of `as_dict`.

        Raises:
            ValueError: A key is missing or unknown, or a value is out of range.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"`values` must be a dictionary; received: {type(values).__name__}")
        rest = dict(values)
        if rest.pop("format", None) != _FORMAT:
            raise ValueError(f"`format` must be {_FORMAT}; received: {values.get('format')!r}")
        fields = {name.name for name in dataclasses.fields(cls)}
        if missing := sorted(fields - rest.keys()):
            raise ValueError(f"must have all fields of a card; missing: {', '.join(missing)}")
        if unknown := sorted(rest.keys() - fields):
            raise ValueError(f"must have only fields of a card; unknown: {', '.join(unknown)}")
        labels, thresholds = rest["labels"], rest["thresholds"]
        if not isinstance(thresholds, list):
            raise ValueError(f"`thresholds` must be a list; received: {type(thresholds).__name__}")
        if labels is not None:
            if not isinstance(labels, Mapping) or labels.keys() != {"mids", "names"}:
                raise ValueError("`labels` must be a dictionary of `mids` and `names`")
            labels = LabelSet(tuple(labels["mids"]), tuple(labels["names"]))
        return cls(**{**rest, "labels": labels})

    @classmethod
    def read(cls, path: str | Path) -> Card:
        """Read the card of a model.

        Args:
            path: Path of a `.keras` file, of a `.tflite` file with its appended zip archive, or of a SavedModel folder.

        Raises:
            FileNotFoundError: There is no such model.
            ValueError: The model has no card, or a damaged one.
        """
        path = Path(path)
        content = _read_content(path)
        try:
            return cls.from_dict(json.loads(content))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: damaged card `{MEMBER}`: {error}") from None


def write_card(path: str | Path, card: Card) -> None:
    """Write a card into a model, in place of the previous one, atomically.

    Args:
        path: Path of a `.keras` file, of a `.tflite` file, or of a SavedModel folder.
        card: Card to write.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The path is neither a zip archive, nor a `.tflite` file, nor a SavedModel.
    """
    path = Path(path)
    content = json.dumps(card.as_dict(), ensure_ascii=False, indent=1).encode()
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path}: must be a SavedModel; received: a folder without saved_model.pb")
        write_bytes(path / _SAVED_MODEL_FOLDER / MEMBER, content)
        return
    _require_file(path)
    with path.open("rb") as source:
        is_zip = zipfile.is_zipfile(source)
        source.seek(4)
        if not is_zip and source.read(4) != b"TFL3":
            raise ValueError(f"{path}: must be a .keras or .tflite file; received: another format")
        with atomic_path(path) as temporary_path, temporary_path.open("w+b") as target:
            if is_zip:
                _copy_zip(source, target, content)
            else:
                source.seek(0)
                shutil.copyfileobj(source, target)
                with zipfile.ZipFile(target, "w") as archive:
                    archive.writestr(zipfile.ZipInfo(MEMBER), content)


def _copy_zip(source: BinaryIO, target: BinaryIO, content: bytes) -> None:
    """Copy a zip archive and the bytes before it, with the card as its last member."""
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        source.seek(0)
        target.write(source.read(min((member.header_offset for member in members), default=0)))
        with zipfile.ZipFile(target, "w") as new_archive:
            for member in members:
                if member.filename != MEMBER:
                    # The copy of the description gets its own position in the archive.
                    with archive.open(member) as old, new_archive.open(copy.copy(member), "w") as new:
                        shutil.copyfileobj(old, new)
            new_archive.writestr(zipfile.ZipInfo(MEMBER), content)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")


def _read_content(path: Path) -> bytes:
    if path.is_dir():
        if not (card := path / _SAVED_MODEL_FOLDER / MEMBER).is_file():
            raise ValueError(f"{path}: has no card ({_SAVED_MODEL_FOLDER}/{MEMBER})")
        return card.read_bytes()
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                raise ValueError(f"{path}: has no card (no `{MEMBER}` inside)")
            if archive.getinfo(MEMBER).file_size > _MAX_BYTES:
                raise ValueError(
                    f"{path}: card `{MEMBER}` must have at most {_MAX_BYTES} bytes; received: a larger one"
                )
            return archive.read(MEMBER)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: has no card, or is damaged ({error})") from None


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be a number of seconds above 0; received: {value!r}")
