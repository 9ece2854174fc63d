"""Start times of recordings, from the metadata of recorders and from file names."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path, PurePath

__all__ = ["parse_file_name", "read_start_time"]

_MAX_METADATA_BYTES = 1 << 16
_GUANO = re.compile(r"^Timestamp:\s*(\S+(?: \d\S*)?)\s*$", re.MULTILINE)
_AUDIOMOTH = re.compile(
    r"Recorded at (\d{2}):(\d{2}):(\d{2}(?:\.\d+)?) (\d{2})/(\d{2})/(\d{4}) \(UTC(?:([+-]\d{1,2})(?::?(\d{2}))?)?\)"
)
_DATE_AND_TIME = re.compile(
    r"(?<!\d)((?:19|20)\d{2})([-_.]?)(\d{2})\2(\d{2})[T_ .-]{0,3}"  # the date
    r"(\d{2})([-_.:h]?)(\d{2})(?:\6(\d{2}(?:[.,]\d{1,6})?))?(?!\d)(Z|UTC|[+-]\d{2}:?\d{2}(?!\d))?"
)
_HEXADECIMAL = re.compile(r"(?=.*[A-F])[0-9A-F]{8}")
_HEXADECIMAL_YEARS = range(2015, 2026)  # in which AudioMoths wrote such names


def read_start_time(path: str | os.PathLike[str], name: str | None = None) -> datetime | None:
    """Read the time at which a recording starts; None if it is unknown.

    The first of these counts: the timestamp of GUANO metadata, the comment of an AudioMoth, date and time in the file
    name (`20240518_063000.WAV`, `SITE_2024-05-18T06-30-00.wav`), and the hexadecimal names of the first AudioMoths
    (`5AFE1B8C.WAV`). The time has a time zone only where one is given.

    Args:
        path: Path of the recording.
        name: File name that counts, if it is not that of `path`.

    >>> from kerastag.tagger.start_times import read_start_time
    >>> read_start_time("SITE4_20240518_063000.wav").isoformat()
    '2024-05-18T06:30:00'
    """
    path = Path(path)
    try:
        metadata = dict(_read_metadata(path))
    except (OSError, struct.error):
        metadata = {}
    start_time = _parse_guano(metadata.get("guan", "")) or _parse_audiomoth(metadata.get("ICMT", ""))
    return start_time or parse_file_name(path.name if name is None else name)


def parse_file_name(name: str) -> datetime | None:
    """Read the time at which a recording starts from its file name, as `read_start_time` does."""
    return _parse_stem(PurePath(name).stem)


def _read_metadata(path: Path) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the chunks of a WAV file that hold metadata."""
    with path.open("rb") as file:
        header = file.read(12)
        if header[:4] not in (b"RIFF", b"RF64") or header[8:] != b"WAVE":
            return
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            start = file.tell()
            if name == b"LIST" and file.read(4) == b"INFO":
                while file.tell() < start + size and len(entry := file.read(8)) == 8:
                    entry_name, entry_size = struct.unpack("<4sI", entry)
                    yield (
                        entry_name.decode("ascii", "replace"),
                        _read_text(file.read(min(entry_size, _MAX_METADATA_BYTES))),
                    )
                    file.seek(max(0, entry_size - _MAX_METADATA_BYTES) + entry_size % 2, os.SEEK_CUR)
            elif name == b"guan":
                yield "guan", _read_text(file.read(min(size, _MAX_METADATA_BYTES)))
            file.seek(start + size + size % 2)


def _read_text(content: bytes) -> str:
    return content.rstrip(b"\0").decode("utf-8", "replace")


def _parse_guano(text: str) -> datetime | None:
    match = _GUANO.search(text)
    try:
        return datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def _parse_audiomoth(text: str) -> datetime | None:
    match = _AUDIOMOTH.search(text)
    if match is None:
        return None
    hour, minute, second, day, month, year, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0) * (-1 if (hours or "").startswith("-") else 1))
    return _create_time(year, month, day, hour, minute, second, timezone(offset) if offset else UTC)


def _parse_stem(stem: str) -> datetime | None:
    if match := _DATE_AND_TIME.search(stem):
        year, _, month, day, hour, _, minute, second, zone = match.groups()
        zone_info = None if zone is None else UTC if zone in ("Z", "UTC") else datetime.strptime(zone, "%z").tzinfo
        return _create_time(year, month, day, hour, minute, (second or "0").replace(",", "."), zone_info)
    if _HEXADECIMAL.fullmatch(stem):
        time = datetime.fromtimestamp(int(stem, 16), UTC)
        return time if time.year in _HEXADECIMAL_YEARS else None
    return None


def _create_time(year: str, month: str, day: str, hour: str, minute: str, second: str, zone: object) -> datetime | None:
    try:
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), tzinfo=zone)  # type: ignore[arg-type]
        return time + timedelta(seconds=float(second)) if float(second) < 61 else None
    except ValueError:
        return None
