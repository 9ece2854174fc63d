"""Names of models: the bundled one, and published weights that are fetched and imported when they are first used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from kerastag import fetch
from kerastag._version import __version__
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.card import Card

__all__ = ["PRESETS", "fetch_model", "find_tagger_weights"]

_EFFICIENTAT = ("mn04_as", "mn05_as", "mn10_as", "mn20_as", "mn30_as", "mn40_as", "mn40_as_ext")
# The function of `kerastag.importers` for each preset, and the public files that it reads.
_SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("import_efficientat", (name,)) for name in _EFFICIENTAT},
    **{name: ("import_panns", (name,)) for name in ("panns_cnn10", "panns_resnet38")},
    "vggish": ("import_vggish", ("vggish_checkpoint", "vggish_pca")),
}
PRESETS = (BUNDLED_MODEL, *_SOURCES)
"""Names that `Tagger.load` takes: the bundled model, and published weights."""


def fetch_model(model: str | os.PathLike[str]) -> Path:
    """Return the path of a model.

    Published weights are fetched, and imported to a `.keras` file in the cache folder, when they are first used, and
    imported again when the file is older than the weights or another version of kerastag wrote it.

    Args:
        model: Path of a `.keras` or `.tflite` file, or one of `PRESETS`.

    Raises:
        FileNotFoundError: `model` is neither a file nor a preset.
        ValueError: `model` is a folder, or the weights of a preset are damaged.
        OSError: The weights of a preset cannot be fetched.

    >>> from kerastag.tagger import fetch_model
    >>> fetch_model("mn03_as")
    Traceback (most recent call last):
    FileNotFoundError: `model` must be a file or one of esc10, mn04_as, ...; received: 'mn03_as'
    """
    name = os.fspath(model)
    if name == BUNDLED_MODEL:
        return resolve_model_path(name)
    if name in _SOURCES:
        return _import_preset(name)
    if Path(name).is_dir():
        raise ValueError(f"{name}: must be a .keras or .tflite file; received: a folder")
    if not Path(name).is_file():
        raise FileNotFoundError(f"`model` must be a file or one of {', '.join(PRESETS)}; received: {name!r}")
    return Path(name)


def find_tagger_weights(model: str) -> str | None:
    """Return the name of the public file that holds the weights of a published tagger; None for any other model."""
    importer, files = _SOURCES.get(model, ("", ()))
    return files[0] if importer in ("import_efficientat", "import_panns") else None


def _import_preset(preset: str) -> Path:
    importer, file_names = _SOURCES[preset]
    path = fetch.get_cache_folder() / f"{preset}.keras"
    sources = [fetch.get_cache_folder() / fetch.FILES[name].file_name for name in file_names]
    if not _is_current(path, sources):
        from kerastag import importers

        getattr(importers, importer)(*map(fetch.fetch, file_names), path)
    return path


def _is_current(path: Path, sources: Iterable[Path]) -> bool:
    try:
        is_newest = all(source.stat().st_mtime <= path.stat().st_mtime for source in sources if source.is_file())
        return is_newest and Card.read(path).versions.get("kerastag") == __version__
    except (FileNotFoundError, ValueError):
        return False
