"""Paths of the TOML files of kerastag, in a wheel and in a checkout.

In a checkout, the files are in the top-level folders `recipes/` and `export/targets/`. The build (see setup.py) copies
them into `kerastag/_toml/` of the wheel; a checkout has no such folder, even after `pip install -e`.
"""

import os
from difflib import get_close_matches
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_CHECKOUT = {"recipes": "recipes", "targets": "export/targets"}


def list_configs(kind: str) -> tuple[str, ...]:
    """List the names of the TOML files of kerastag of a kind, `"recipes"` or `"targets"`, sorted."""
    return tuple(sorted(path.stem for path in _get_folder(kind).glob("*.toml")))


def find_config(kind: str, name: str | os.PathLike[str]) -> Path:
    """Find a TOML file of kerastag by its kind and name, or a TOML file of the user by its path.

    A text with a folder or the extension `.toml` is a path first: `feature_attention` is always the file of kerastag,
    `feature_attention.toml` only where the current folder has no such file. An error proposes similar names.
    """
    folder = _get_folder(kind)
    path, text = Path(name), os.fspath(name)
    is_in_folder = path.name != text
    if (is_in_folder or path.suffix == ".toml") and path.is_file():
        return path
    if is_in_folder:
        raise FileNotFoundError(f"`config` must be the path of a TOML file; received: {text!r}")
    bundled = folder / f"{path.name.removesuffix('.toml')}.toml"
    if bundled.is_file():
        return bundled
    similar = get_close_matches(bundled.stem, list_configs(kind))
    hint = f" (did you mean {' or '.join(similar)}?)" if similar else ""
    raise FileNotFoundError(
        f"`config` must be the path of a TOML file or the name of one of kerastag, which are in {folder}; "
        f"received: {text!r}{hint}"
    )


def _get_folder(kind: str) -> Path:
    if kind not in _IN_CHECKOUT:
        raise ValueError(f"`kind` must be one of {', '.join(_IN_CHECKOUT)}; received: {kind!r}")
    packaged = _PACKAGE / "_toml"
    return packaged / kind if packaged.is_dir() else _PACKAGE.parent / _IN_CHECKOUT[kind]
