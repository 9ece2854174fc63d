"""What a model is: classes, thresholds, front end, rate, window, origin. Travels inside every format; no framework."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from kerastag.labels import LabelSet

__all__ = ["MEMBER", "Card", "write_card"]

MEMBER = "kerastag.json"
SAVED_MODEL_FOLDER = "assets.extra"
DEFAULT_THRESHOLD = 0.1
_FORMAT = 1
_LARGEST = 16 * 2**20


@dataclass(frozen=True)
class Card:
    """What one has to know beside the weights to use a model.

    Args:
        labels: The classes, in the order of the outputs; None for a model that only embeds.
        sample_rate: Of the waveform that the model hears, Hz, above zero.
        window_seconds: Length of one clip, seconds, above zero.
        seconds_per_frame: From one output frame to the next, seconds, above zero; None where there are none.
        front_end: The fields of the `FrontEnd`, from its `as_dict`.
        thresholds: Probability above which a class counts as heard, one a class, in [0, 1]; 0.1 where none is given.
        thresholds_origin: Where the thresholds come from.
        origin: Where the weights come from.
        versions: Package -> version that wrote the model.

    Raises:
        ValueError: A field is outside its range.

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
            raise ValueError(f"`labels` must be a LabelSet or None, received {type(self.labels).__name__}")
        if not isinstance(self.sample_rate, int) or isinstance(self.sample_rate, bool) or self.sample_rate < 1:
            raise ValueError(f"`sample_rate` must be a whole number above zero, received {self.sample_rate!r}")
        _check_seconds("window_seconds", self.window_seconds)
        if self.seconds_per_frame is not None:
            _check_seconds("seconds_per_frame", self.seconds_per_frame)
        for name in ("thresholds_origin", "origin"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"`{name}` must be text, received {getattr(self, name)!r}")
        for name in ("front_end", "versions"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"`{name}` must be a dictionary, received {getattr(self, name)!r}")
        self._set_thresholds()

    def _set_thresholds(self) -> None:
        names = () if self.labels is None else self.labels.names
        values = (DEFAULT_THRESHOLD,) * len(names) if self.thresholds is None else tuple(self.thresholds)
        if len(values) != len(names):
            raise ValueError(f"`thresholds` must be one a class ({len(names)}), received {len(values)}")
        for name, value in zip(names, values, strict=True):
            if isinstance(value, bool | str) or value is None or not 0 <= value <= 1:
                raise ValueError(f"`thresholds` must lie in [0, 1], received {value!r} for {name}")
        object.__setattr__(self, "thresholds", tuple(float(value) for value in values))

    def as_dict(self) -> dict[str, Any]:
        """Card -> plain JSON values."""
        values = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        labels = self.labels
        return {
            **values,
            "format": _FORMAT,
            "labels": None if labels is None else {"mids": list(labels.mids), "names": list(labels.names)},
            "thresholds": list(self.thresholds or ()),
            "front_end": dict(self.front_end),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Plain JSON values -> card.

        Raises:
            ValueError: A key is missing or unknown, or its value outside its range.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"a card must be a dictionary, received {type(values).__name__}")
        rest = dict(values)
        if rest.pop("format", None) != _FORMAT:
            raise ValueError(f"`format` must be {_FORMAT}, received {values.get('format')!r}")
        fields = {name.name for name in dataclasses.fields(cls)}
        if missing := sorted(fields - rest.keys()):
            raise ValueError(f"missing: {', '.join(missing)}")
        if unknown := sorted(rest.keys() - fields):
            raise ValueError(f"unknown: {', '.join(unknown)}")
        labels, thresholds = rest.pop("labels"), rest.pop("thresholds")
        if not isinstance(thresholds, list):
            raise ValueError(f"`thresholds` must be a list, received {type(thresholds).__name__}")
        return cls(_labels_from(labels), thresholds=tuple(thresholds), **rest)

    @classmethod
    def read(cls, path: str | Path) -> Card:
        """A model of any format -> its card.

        Args:
            path: A `.keras` file, a `.tflite` file with its appended zip, or the folder of a SavedModel.

        Raises:
            FileNotFoundError: There is no such model.
            ValueError: The model has no card, or a damaged one.
        """
        path = Path(path)
        text = _read_folder(path) if path.is_dir() else _read_zip(path)
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: damaged card `{MEMBER}`: {error}") from None


def write_card(path: str | Path, card: Card) -> None:
    """Put a card into a model, in the place of the one it had; the file is replaced at once or not at all.

    Args:
        path: A `.keras` file, a `.tflite` file, or the folder of a SavedModel.
        card: What to put in.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: It is neither a zip, nor a `.tflite` file, nor a SavedModel.
    """
    path = Path(path)
    text = json.dumps(card.as_dict(), ensure_ascii=False, indent=1).encode()
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path}: is no SavedModel (no saved_model.pb inside)")
        (path / SAVED_MODEL_FOLDER).mkdir(exist_ok=True)
        _replace(path / SAVED_MODEL_FOLDER / MEMBER, lambda file: file.write(text))
        return
    _require_file(path)
    with path.open("rb") as source:
        is_zip, is_tflite = zipfile.is_zipfile(source), _is_tflite(source)
        if not is_zip and not is_tflite:
            raise ValueError(f"{path}: is neither a .keras nor a .tflite file")
        _replace(path, lambda target: _copy_with_member(source, target, text, is_zip))


def _labels_from(values: Any) -> LabelSet | None:
    if values is None:
        return None
    if not isinstance(values, Mapping) or values.keys() != {"mids", "names"}:
        raise ValueError("`labels` must hold `mids` and `names`")
    return LabelSet(tuple(values["mids"]), tuple(values["names"]))


def _copy_with_member(source: BinaryIO, target: BinaryIO, text: bytes, is_zip: bool) -> None:
    """Copy a zip, with what stands before it, and add the card as its last member."""
    if not is_zip:
        source.seek(0)
        shutil.copyfileobj(source, target)
        with zipfile.ZipFile(target, "w") as new:
            new.writestr(zipfile.ZipInfo(MEMBER), text)
        return
    with zipfile.ZipFile(source) as old:
        members = old.infolist()
        before = min((member.header_offset for member in members), default=0)
        source.seek(0)
        _copy_bytes(source, target, before)
        with zipfile.ZipFile(target, "w") as new:
            for member in members:
                if member.filename != MEMBER:
                    with old.open(member) as content, new.open(_fresh(member), "w") as copy:
                        shutil.copyfileobj(content, copy)
            new.writestr(zipfile.ZipInfo(MEMBER), text)


def _fresh(member: zipfile.ZipInfo) -> zipfile.ZipInfo:
    copy = zipfile.ZipInfo(member.filename, member.date_time)
    copy.compress_type, copy.external_attr, copy.file_size = (
        member.compress_type,
        member.external_attr,
        member.file_size,
    )
    return copy


def _copy_bytes(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count > 0:
        block = source.read(min(count, 2**20))
        target.write(block)
        count -= len(block)


def _replace(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
        if path.exists():
            shutil.copymode(path, temporary)
        else:
            Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _is_tflite(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(8)[4:] == b"TFL3"


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"`path`: no such model: {path}")


def _read_folder(path: Path) -> bytes:
    card = path / SAVED_MODEL_FOLDER / MEMBER
    if not card.is_file():
        raise ValueError(f"{path}: has no card ({SAVED_MODEL_FOLDER}/{MEMBER})")
    return card.read_bytes()


def _read_zip(path: Path) -> bytes:
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                raise ValueError(f"{path}: has no card (no `{MEMBER}` inside)")
            if archive.getinfo(MEMBER).file_size > _LARGEST:
                raise ValueError(f"{path}: its card is too large")
            return archive.read(MEMBER)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: has no card, or is damaged ({error})") from None


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be a number of seconds above zero, received {value!r}")
