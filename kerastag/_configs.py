"""The name of a TOML that comes with kerastag -> its path, from a wheel and from a checkout alike.

The files live in the checkout's top-level `recipes/` and `export/targets/`; the build (see setup.py) copies them into
`kerastag/_toml/` of the wheel. A checkout has no such folder, whether it is installed with `pip install -e` or not.
"""

import os
from difflib import get_close_matches
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_CHECKOUT = {"recipes": "recipes", "targets": "export/targets"}


def config_names(kind: str) -> tuple[str, ...]:
    """A kind of TOML -> the names of those that come with kerastag, sorted.

    Args:
        kind: `"recipes"` or `"targets"`.

    Raises:
        ValueError: if `kind` is neither.

    >>> sorted(config_names("recipes")) == list(config_names("recipes"))
    True
    """
    return tuple(sorted(path.stem for path in _folder(kind).glob("*.toml")))


def config_path(kind: str, name: str | os.PathLike[str]) -> Path:
    """The name of a TOML that comes with kerastag, or the path of one's own -> its path.

    What has a folder or the ending `.toml` is a path first: `feature_attention` is always ours,
    `feature_attention.toml` is ours only where the current folder has none.

    Args:
        kind: `"recipes"` or `"targets"`.
        name: a name out of `config_names(kind)`, with or without `.toml`, or a path.

    Raises:
        ValueError: if `kind` is neither of the two.
        FileNotFoundError: if there is no such file; names that look alike are offered.

    >>> config_path("recipes", "no_such_recipe")
    Traceback (most recent call last):
    ...
    FileNotFoundError: `config` must be the path of a TOML file or the name of one that comes with kerastag...
    """
    folder = _folder(kind)
    path = Path(name)
    if path.suffix == ".toml" or path.name != os.fspath(name):
        if path.is_file():
            return path
        if path.name != os.fspath(name):
            raise FileNotFoundError(f"`config` must be the path of a TOML file: got {os.fspath(name)!r}, no such file")
    ours = folder / f"{path.name.removesuffix('.toml')}.toml"
    if ours.is_file():
        return ours
    alike = get_close_matches(ours.stem, config_names(kind))
    hint = f" (did you mean {' or '.join(alike)}?)" if alike else ""
    raise FileNotFoundError(
        "`config` must be the path of a TOML file or the name of one that comes with kerastag: "
        f"got {os.fspath(name)!r}, not among those of {folder}{hint}"
    )


def _folder(kind: str) -> Path:
    if kind not in _IN_CHECKOUT:
        raise ValueError(f"`kind` must be one of {sorted(_IN_CHECKOUT)}: got {kind!r}")
    packaged = _PACKAGE / "_toml"
    return packaged / kind if packaged.is_dir() else _PACKAGE.parent / _IN_CHECKOUT[kind]
