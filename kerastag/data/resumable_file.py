"""An HDF5 file that appears whole or not at all, and that a stopped writer goes on with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

import kerastag
from kerastag.data.careful_file import CarefulFile, writing

__all__ = ["ResumableFile"]


class ResumableFile:
    """Base of the writers of packs: rows of some datasets, written beside as `NAME.partial` and renamed when whole.

    A subclass names its datasets in `_keys`, makes them in `_create_datasets`, and takes back in `_restore` what it
    gave to `_checkpoint`. It sets what these read before it calls this constructor.

    Args:
        path: the file to write.
        fingerprint: what the rows come from; a partial file with another one is started again. None never resumes.
    """

    _keys: tuple[str, ...]

    def __init__(self, path: Path, fingerprint: str | None) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self._fingerprint, self._saved = fingerprint, False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._disk = CarefulFile.of(self.partial)
        self._file = self._resume() or self._create()

    def close(self) -> None:
        """Closes without finishing; a partial file stays when a checkpoint lets the next run go on with it."""
        with suppress(OSError, RuntimeError):  # of a file that is given up
            self._file.close()
        self._disk.close()
        if not self._saved:
            self.partial.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._file[self._keys[0]])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create_datasets(self, file: h5py.File) -> None:
        raise NotImplementedError(f"{type(self).__name__} must write `_create_datasets(file)`")

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        """Take back what `_checkpoint` was given; any error starts the file again."""
        raise NotImplementedError(f"{type(self).__name__} must write `_restore(file, state)`")

    def _append(self, columns: Mapping[str, np.ndarray]) -> None:
        """New rows of every dataset."""
        start = len(self)
        with self._writing():
            for key, values in columns.items():
                self._file[key].resize(start + len(values), axis=0)
                self._file[key][start:] = values

    def _checkpoint(self, **progress: Any) -> None:
        """The rows so far survive a kill from here on, and `progress`, JSON values, with them."""
        state = {"fingerprint": self._fingerprint, "rows": len(self), **progress}
        with self._writing():
            if "state" in self._file:
                del self._file["state"]
            self._file["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
            self._file.flush()
        self._saved = self._fingerprint is not None

    def _put_in_place(self, attributes: Mapping[str, Any]) -> None:
        """The file is whole: its attributes, then its name."""
        with self._writing():
            if "state" in self._file:
                del self._file["state"]
            self._file.attrs.update({**attributes, "kerastag_version": kerastag.__version__})
            self._file.close()
        os.fsync(self._disk.fileno())
        self._disk.close()
        self.partial.replace(self.path)

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self._disk)

    def _create(self) -> h5py.File:
        self._disk.truncate(0)
        file = h5py.File(self._disk, "w")
        self._create_datasets(file)
        return file

    def _resume(self) -> h5py.File | None:
        if self._fingerprint is None:
            return None
        file = None
        try:
            file = h5py.File(self._disk, "r+")
            state = json.loads(file["state"][:].tobytes())
            if state["fingerprint"] != self._fingerprint:
                raise ValueError("another source")
            for key in self._keys:
                if len(file[key]) < state["rows"]:
                    raise ValueError("rows are lost")
                file[key].resize(state["rows"], axis=0)
            self._restore(file, state)
        except Exception:  # whatever a kill left behind: the rows can always be read again from their source
            if file is not None:
                file.close()
            return None
        self._saved = True
        return file
