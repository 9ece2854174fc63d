"""Model cards: classes, thresholds, front end, sample rate, window and origin of a model.

A card is a JSON file inside the model, in every format, and is read without a framework.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

from kerastag.files import atomic_path, hash_first_bytes, write_bytes
from kerastag.labels import LabelSet

__all__ = ["MEMBER", "Card", "write_card"]

MEMBER = "kerastag.json"
"""Name of the card inside a model."""

_SAVED_MODEL_FOLDER = "assets.extra"
_DEFAULT_THRESHOLD = 0.1
_FORMAT = 1
_MAX_BYTES = 4 * 2**20
_MIN_SECONDS, _MAX_SECONDS = 0.001, 3600
_MIN_SAMPLE_RATE, _MAX_SAMPLE_RATE = 1_000, 1_000_000
_HINT = (
    "; kerastag reads the .tflite files of `kerastag export`; of other projects, `kerastag import` converts the "
    "checkpoints of PANNs, EfficientAT, TALNet and VGGish"
)
_OPTIONAL_FIELDS = ("event_rules", "calibration")  # Cards of version 0.1.0 lack them.
_EVENT_RULE_LIMITS = {
    "offset_ratio": 1.0,
    "smoothing_seconds": 60.0,
    "min_seconds": 3_600.0,
    "max_gap_seconds": 86_400.0,
    "refractory_seconds": 86_400.0,
}
_DIGEST = "sha256"  # key of the digest of the bytes before the archive of a `.tflite` file


@dataclass(frozen=True)
class Card:
    """Everything that one needs to use a model, apart from its weights.

    Args:
        labels: Classes in the order of the outputs; None for a model that only computes embeddings.
        sample_rate: Sample rate of the waveform that the model takes, 1,000 to 1,000,000 Hz.
        window_seconds: Length of one clip, 0.001 to 3600 s.
        seconds_per_frame: Distance from one output frame to the next, from 0.001 s to `window_seconds`; None for a
            model without output frames.
        front_end: Fields of the `FrontEnd`, from its `as_dict`.
        thresholds: Probability in [0, 1] from which a class counts as present, one per class; None is 0.1 for each.
        thresholds_origin: Source of the thresholds.
        origin: Source of the weights.
        versions: Versions of the packages that wrote the model, by name.
        event_rules: Rules by which its probabilities become events, by name: `offset_ratio`, the offset threshold
            divided by the onset threshold, in [0, 1], and `smoothing_seconds`, `min_seconds`, `max_gap_seconds` and
            `refractory_seconds` of `EventRules`. Those that are missing have the defaults of `EventRules`;
            `min_seconds` may be one per class.
        calibration: How the probabilities were calibrated; empty if they were not.

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
    event_rules: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    calibration: str = ""

    def __post_init__(self) -> None:
        if self.labels is not None and not isinstance(self.labels, LabelSet):
            raise ValueError(f"`labels` must be a LabelSet or None; received: {type(self.labels).__name__}")
        rate = self.sample_rate
        if not isinstance(rate, int) or not _MIN_SAMPLE_RATE <= rate <= _MAX_SAMPLE_RATE:
            allowed = f"an integer from {_MIN_SAMPLE_RATE:,} to {_MAX_SAMPLE_RATE:,}"
            raise ValueError(f"`sample_rate` must be {allowed}; received: {rate!r}")
        for name in ("window_seconds", "seconds_per_frame"):
            value = getattr(self, name)
            if value is None and name == "seconds_per_frame":
                continue
            if not _is_number(value) or not _MIN_SECONDS <= value <= _MAX_SECONDS:
                allowed = f"a number of seconds from {_MIN_SECONDS} to {_MAX_SECONDS}"
                raise ValueError(f"`{name}` must be {allowed}; received: {value!r}")
        if (self.seconds_per_frame or 0) > self.window_seconds:
            allowed = f"at most {self.window_seconds}, the window"
            raise ValueError(f"`seconds_per_frame` must be {allowed}; received: {self.seconds_per_frame!r}")
        for name in ("thresholds_origin", "origin", "calibration"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"`{name}` must be text; received: {getattr(self, name)!r}")
        for name in ("front_end", "versions", "event_rules"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"`{name}` must be a dictionary; received: {getattr(self, name)!r}")
        for key, value in self.versions.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ValueError(f"`versions` must map names to text; received: {value!r} for {key!r}")
        for key, value in self.event_rules.items():
            if key not in _EVENT_RULE_LIMITS:
                raise ValueError(f"`event_rules` must have only {', '.join(_EVENT_RULE_LIMITS)}; received: {key!r}")
            values = value if key == "min_seconds" and isinstance(value, list | tuple) else (value,)
            if not all(_is_number(each) and 0 <= each <= _EVENT_RULE_LIMITS[key] for each in values):
                allowed = f"in [0, {_EVENT_RULE_LIMITS[key]:g}]"
                raise ValueError(f"`{key}` of `event_rules` must be {allowed}; received: {value!r}")
        names = () if self.labels is None else self.labels.names
        min_seconds = self.event_rules.get("min_seconds")
        if isinstance(min_seconds, list | tuple):
            if len(min_seconds) != len(names):
                raise ValueError(
                    f"`min_seconds` of `event_rules` must be one number or {len(names)}; received: {len(min_seconds)}"
                )
            object.__setattr__(self, "event_rules", {**self.event_rules, "min_seconds": tuple(min_seconds)})
        values = (_DEFAULT_THRESHOLD,) * len(names) if self.thresholds is None else tuple(self.thresholds)
        if len(values) != len(names):
            raise ValueError(f"`thresholds` must be one per class, {len(names)}; received: {len(values)}")
        for name, value in zip(names, values, strict=True):
            if not _is_number(value) or not 0 <= value <= 1:
                raise ValueError(f"`thresholds` must be in [0, 1]; received: {value!r} for {name}")
        object.__setattr__(self, "thresholds", tuple(float(value) for value in values))

    def as_dict(self) -> dict[str, Any]:
        """Return the card as JSON values, without optional fields that are empty, which older versions refuse."""
        labels = self.labels
        return {
            **{name: value for name, value in vars(self).items() if value or name not in _OPTIONAL_FIELDS},
            "format": _FORMAT,
            "labels": None if labels is None else {"mids": list(labels.mids), "names": list(labels.names)},
            "thresholds": list(self.thresholds or ()),
            "front_end": dict(self.front_end),
            "versions": dict(self.versions),
            **({"event_rules": dict(self.event_rules)} if self.event_rules else {}),
        }

    def with_labels(self, labels: LabelSet) -> Card:
        """Return a card of other classes, of which those that this card has keep their threshold and `min_seconds`.

        Other classes have the default threshold, and a `min_seconds` of 0 where each class has its own.

        >>> from kerastag import LabelSet
        >>> card = Card(LabelSet.from_names(["Bark", "Rain"]), 32000, 10.0, 0.32, thresholds=(0.3, 0.4))
        >>> card.with_labels(LabelSet.from_names(["Rain", "Wind"])).thresholds
        (0.4, 0.1)
        """
        names = () if self.labels is None else self.labels.names
        thresholds = dict(zip(names, self.thresholds or (), strict=True))
        rules = dict(self.event_rules)
        min_seconds = rules.get("min_seconds")
        if isinstance(min_seconds, tuple):
            lengths = dict(zip(names, min_seconds, strict=True))
            rules["min_seconds"] = tuple(lengths.get(name, 0.0) for name in labels.names)
        return dataclasses.replace(
            self,
            labels=labels,
            thresholds=tuple(thresholds.get(name, _DEFAULT_THRESHOLD) for name in labels.names),
            event_rules=rules,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Create a card from the result of `as_dict`.

        Raises:
            ValueError: A key is missing or unknown, or a value is of another type or out of range.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"`values` must be a dictionary; received: {type(values).__name__}")
        rest = dict(values)
        rest.pop(_DIGEST, None)
        if rest.pop("format", None) != _FORMAT:
            raise ValueError(f"`format` must be {_FORMAT}; received: {values.get('format')!r}")
        fields = {name.name for name in dataclasses.fields(cls)}
        if missing := sorted(fields - rest.keys() - set(_OPTIONAL_FIELDS)):
            raise ValueError(f"must have all fields of a card; missing: {', '.join(missing)}")
        if unknown := sorted(rest.keys() - fields):
            raise ValueError(f"must have only fields of a card; unknown: {', '.join(unknown)}")
        labels, thresholds = rest["labels"], rest["thresholds"]
        if not isinstance(thresholds, list):
            raise ValueError(f"`thresholds` must be a list; received: {type(thresholds).__name__}")
        if labels is not None:
            is_valid = isinstance(labels, Mapping) and labels.keys() == {"mids", "names"}
            if not is_valid or not all(isinstance(value, list) for value in labels.values()):
                raise ValueError("`labels` must be a dictionary of the lists `mids` and `names`")
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
        content, digest = _read_content(path)
        try:
            values = json.loads(content)
            card = cls.from_dict(values)
            if card.front_end:
                from kerastag.dsp import FrontEnd  # NumPy, which reading other cards does not need

                front_end = FrontEnd.from_dict(dict(card.front_end))
                if front_end.sample_rate != card.sample_rate:
                    allowed = f"that of `front_end`, {front_end.sample_rate}"
                    raise ValueError(f"`sample_rate` must be {allowed}; received: {card.sample_rate}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: damaged card `{MEMBER}`: {error}") from None
        # Cards before version 0.2 have no digest.
        if digest is not None and values.get(_DIGEST, digest) != digest:
            raise ValueError(
                f"{path}: damaged: `{_DIGEST}` of its card must be that of the bytes of the model, {digest[:12]}…; "
                f"received: {str(values[_DIGEST])[:12]}…; export the model or copy the file again"
            )
        return card


def write_card(path: str | Path, card: Card) -> None:
    """Write a card into a model, in place of the previous one, atomically.

    In a `.tflite` file the card gets the SHA-256 of the bytes of the model, which `Card.read` compares with them: an
    interpreter may crash on a model with one changed byte, or compute something else.

    Args:
        path: Path of a `.keras` file, of a `.tflite` file, or of a SavedModel folder.
        card: Card to write.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The path is neither a zip archive, nor a `.tflite` file, nor a SavedModel.
    """
    path = Path(path)
    values = card.as_dict()
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path}: must be a SavedModel; received: a folder without saved_model.pb")
        write_bytes(path / _SAVED_MODEL_FOLDER / MEMBER, _format_json(values))
        return
    _require_file(path)
    with path.open("rb") as source:
        is_zip, is_tflite = zipfile.is_zipfile(source), _is_tflite(source)
        if not is_zip and not is_tflite:
            raise ValueError(f"{path}: must be a .keras or .tflite file; received: another format")
        if is_tflite:
            size = _find_archive(source) if is_zip else os.fstat(source.fileno()).st_size
            values[_DIGEST] = hash_first_bytes(source, size).hexdigest()
        content = _format_json(values)
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
        start = _find_archive(source)
        source.seek(0)
        target.write(source.read(start))
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


def _read_content(path: Path) -> tuple[bytes, str | None]:
    """Read the card of a model, and compute the digest of the bytes that the card of a `.tflite` file describes."""
    hint = ""
    try:
        if path.is_dir():
            card = path / _SAVED_MODEL_FOLDER / MEMBER
            if not card.is_file():
                raise ValueError(f"has no card ({_SAVED_MODEL_FOLDER}/{MEMBER})")
            with card.open("rb") as file:
                return _read_limited(file), None
        _require_file(path)
        with path.open("rb") as source:
            is_tflite = _is_tflite(source)
            hint = _HINT if is_tflite else ""
            with zipfile.ZipFile(source) as archive:
                if MEMBER not in archive.namelist():
                    raise ValueError(f"has no card (no `{MEMBER}` inside){hint}")
                member = archive.getinfo(MEMBER)
                # The size in the archive may be wrong. The other methods unpack all of a member at once.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"card `{MEMBER}` must be stored or deflated; received: another method")
                with archive.open(member) as file:
                    content = _read_limited(file)
            return content, hash_first_bytes(source, _find_archive(source)).hexdigest() if is_tflite else None
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: has no card, or is damaged ({error}){hint}") from None


def _read_limited(file: IO[bytes]) -> bytes:
    content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"card `{MEMBER}` must have at most {_MAX_BYTES} bytes; received: a larger one")
    return content


def _is_tflite(file: BinaryIO) -> bool:
    file.seek(4)
    return file.read(4) == b"TFL3"


def _find_archive(file: BinaryIO) -> int:
    """Return the position of the first member of a zip archive, where the bytes before the archive end."""
    with zipfile.ZipFile(file) as archive:
        return min((member.header_offset for member in archive.infolist()), default=0)


def _format_json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, indent=1).encode()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
