"""A model file, or the name of published weights -> the file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from kerastag import __version__, fetch
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import Card

__all__ = ["PRESETS", "model_file"]

_EFFICIENTAT = "mn04_as", "mn05_as", "mn10_as", "mn20_as", "mn30_as", "mn40_as", "mn40_as_ext"
# Preset -> reader in `kerastag.importers`, and the public files that it reads.
_SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("efficientat", (name,)) for name in _EFFICIENTAT},
    **{name: ("panns", (name,)) for name in ("panns_cnn10", "panns_resnet38")},
    "vggish": ("vggish", ("vggish_checkpoint", "vggish_pca")),
}
PRESETS = (BUNDLED_MODEL, *_SOURCES)
"""Names that `Tagger.load` takes: the model in the box, and published weights."""


def model_file(model: str | os.PathLike[str]) -> Path:
    """A model file, or a name -> the file; published weights are fetched and imported when they are first used.

    Args:
        model: Path of a `.keras` or `.tflite` file, or one of `PRESETS`.

    Returns:
        The path; of `BUNDLED_MODEL` that in the package; of published weights that of their `.keras` file in the cache,
        made when it is missing or outdated.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder; a preset's weights are damaged.
        OSError: A preset's weights cannot be fetched.

    >>> model_file("mn03_as")
    Traceback (most recent call last):
    FileNotFoundError: `model` must be a file or one of esc10, mn04_as, ... received 'mn03_as'
    """
    name = os.fspath(model)
    if name == BUNDLED_MODEL:
        return resolve_model_path(name)
    if name in _SOURCES:
        return _imported(name)
    if Path(name).is_dir():
        raise ValueError(f"{name}: must be a .keras or .tflite file, received a folder")
    if not Path(name).is_file():
        raise FileNotFoundError(f"`model` must be a file or one of {', '.join(PRESETS)}, received {name!r}")
    return Path(name)


def _imported(preset: str) -> Path:
    importer, files = _SOURCES[preset]
    made = fetch.cache_folder() / f"{preset}.keras"
    sources = [fetch.cache_folder() / fetch.FILES[name].file_name for name in files]
    if not _is_current(made, sources):
        reader = import_module(f"kerastag.importers.{importer}")
        getattr(reader, f"import_{importer}")(*map(fetch.fetch, files), made)
    return made


def _is_current(made: Path, sources: Iterable[Path]) -> bool:
    if not made.is_file() or any(path.is_file() and path.stat().st_mtime > made.stat().st_mtime for path in sources):
        return False
    try:
        return Card.read(made).versions.get("kerastag") == __version__
    except ValueError:
        return False
