"""Where AudioSet's features lie: the official tar or a folder -> its TFRecord files, split by split."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from kerastag.data.framing import CorruptRecord

__all__ = ["SPLITS", "STREAM_ERRORS", "FeatureSource", "SourceFile"]

_WHOLE_BYTES = 1 << 26
STREAM_ERRORS = (tarfile.TarError, EOFError, zlib.error, OSError)
SPLITS = ("bal_train", "unbal_train", "eval")


@dataclass(frozen=True)
class SourceFile:
    """One TFRecord file: its split, its name for messages, an open stream, and how far the whole source is read."""

    split: str
    name: str
    stream: BinaryIO
    bytes_done: Callable[[], int]


class FeatureSource:
    """The official `features.tar.gz`, or a folder of it unpacked -> its TFRecord files in order.

    A folder may be `audioset_v1_embeddings`, the one that holds it, or one split itself. Its files come
    sorted by name; those of a tar as they lie in it, without unpacking.

    Args:
        path: the tar (compressed or not) or the folder.
        splits: names among `bal_train`, `unbal_train` and `eval`; None takes those that are there.

    Raises:
        FileNotFoundError: nothing at `path`, or no TFRecord file in the folder.
        ValueError: an unknown split, or a file that is no tar.
    """

    def __init__(self, path: str | os.PathLike[str], splits: tuple[str, ...] | list[str] | None = None) -> None:
        self.path = Path(path)
        unknown = [split for split in splits or () if split not in SPLITS]
        if unknown:
            raise ValueError(f"`splits` must be among {', '.join(SPLITS)}, received {unknown[0]!r}")
        self.splits, self.splits_asked = tuple(splits or SPLITS), splits is not None
        if not self.path.exists():
            raise FileNotFoundError(f"`source`: {self.path}: no such file or folder")
        self._folders: dict[str, Path] = {}
        if self.path.is_dir():
            self._folders = self._find_folders()
            self._files = {split: sorted(folder.glob("*.tfrecord")) for split, folder in self._folders.items()}
            absent = [split for split in splits or () if split not in self._folders]
            if absent:
                raise FileNotFoundError(f"`source`: {self.path}: no {absent[0]}/*.tfrecord in it")
            self.total_bytes = sum(file.stat().st_size for files in self._files.values() for file in files)
        else:
            self.total_bytes = self.path.stat().st_size

    @property
    def fingerprint(self) -> str:
        """What tells this source from another: its absolute path, size and age."""
        return f"{self.path.resolve()} {self.total_bytes} {self.path.stat().st_mtime_ns}"

    def files(self) -> Iterator[SourceFile]:
        """Yields every TFRecord file, opened.

        Raises:
            CorruptRecord: the tar ends early or is damaged; its name is the last file seen.
        """
        return self._files_of_folder() if self.path.is_dir() else self._files_of_tar()

    def _find_folders(self) -> dict[str, Path]:
        candidates = (
            self.path,
            self.path / "audioset_v1_embeddings",
            *sorted(p for p in self.path.iterdir() if p.is_dir()),
        )
        for parent in candidates:
            found = {split: parent / split for split in self.splits if any((parent / split).glob("*.tfrecord"))}
            if found:
                return found
        if self.path.resolve().name in self.splits and any(self.path.glob("*.tfrecord")):
            return {self.path.resolve().name: self.path}
        raise FileNotFoundError(
            f"`source`: {self.path}: no SPLIT/*.tfrecord in it, with SPLIT among {', '.join(self.splits)}"
        )

    def _files_of_folder(self) -> Iterator[SourceFile]:
        before = 0
        for split, files in self._files.items():
            for file in files:
                with file.open("rb", buffering=1 << 18) as stream:
                    yield SourceFile(split, str(file), stream, partial(_position, stream, before))
                before += file.stat().st_size

    def _files_of_tar(self) -> Iterator[SourceFile]:
        name = None
        with self.path.open("rb") as raw:
            try:
                with tarfile.open(fileobj=raw, mode="r|*") as tar:
                    for member in tar:
                        place = PurePosixPath(member.name)
                        if not (member.isfile() and place.suffix == ".tfrecord" and place.parent.name in self.splits):
                            continue
                        name = f"{self.path}: {member.name}"
                        stream = cast(BinaryIO, tar.extractfile(member))
                        if member.size <= _WHOLE_BYTES:  # in pieces, a member of a streamed tar is slow to read
                            stream = io.BytesIO(stream.read())
                        yield SourceFile(place.parent.name, name, stream, raw.tell)
            except STREAM_ERRORS as error:
                if name is None:
                    raise ValueError(f"`source`: {self.path}: not a tar with TFRecord files ({error})") from error
                raise CorruptRecord(
                    name, None, f"the tar is damaged or ends early ({error})", rest_lost=True
                ) from error


def _position(stream: BinaryIO, before: int) -> int:
    return before + stream.tell()
