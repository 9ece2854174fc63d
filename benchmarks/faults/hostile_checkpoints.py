"""Checkpoints of TensorFlow with changed bytes, which `kerastag import vggish` reads with TensorFlow's own reader.

A checkpoint must be imported, or refused by a ValueError that names it, in seconds.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from _tries import change_bytes
from importers.test_vggish import SHAPES, write_checkpoint

from kerastag.importers import import_vggish

_MAX_BYTES = 8 << 30  # TensorFlow reserves addresses that it does not use.


def run(quick: bool) -> Iterator[tuple[str, int, int, str]]:
    """Read checkpoints of both formats; `quick` changes fewer bytes."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    random = np.random.default_rng(0)
    state = {
        f"vggish/{scope}/{kind}": random.normal(size=shape if kind == "weights" else shape[-1:]).astype(np.float32)
        for scope, shape in SHAPES.items()
        for kind in ("weights", "biases")
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pca = folder / "pca.npz"
        np.savez(pca, pca_means=np.zeros((128, 1)), pca_eigen_vectors=np.eye(128))
        # In child processes, so that this one has no threads of TensorFlow when it forks.
        for several_files in (False, True):
            if pid := os.fork():
                assert os.waitpid(pid, 0)[1] == 0
            else:
                write_checkpoint(folder / ("parts" if several_files else "one.ckpt"), state, several_files)
                os._exit(0)
        tries = 20 if quick else 300
        for kind, path, read in (
            ("of one file", folder / "one.ckpt", lambda path: _import(path, pca)),
            ("of several files, the index", folder / "parts.index", _read_parts(pca, folder / "parts")),
            (
                "of several files, the data",
                folder / "parts.data-00000-of-00001",
                _read_parts(pca, folder / "parts"),
            ),
        ):
            yield change_bytes(f"a TensorFlow checkpoint {kind}", path, read, tries, _MAX_BYTES)


def _import(checkpoint: Path, pca: Path) -> None:
    import_vggish(checkpoint, pca, checkpoint.with_name("vggish.keras"))


def _read_parts(pca: Path, prefix: Path) -> Callable[[Path], None]:
    """Return a function that imports the checkpoint with another index or data."""

    def read(path: Path) -> None:
        copy = prefix.with_name("copy")
        for suffix in (".index", ".data-00000-of-00001"):
            source = path if path.suffix == suffix else prefix.with_name(prefix.name + suffix)
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
        try:
            _import(copy, pca)
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), str(path))) from error

    return read
