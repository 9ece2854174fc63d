"""The plan of an archive, `plan.json`: its model and its settings, which every later run must share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerastag._version import __version__
from kerastag.archive.remote import is_url
from kerastag.archive.settings import ArchiveSettings
from kerastag.archive.tables import FORMAT
from kerastag.card import Card
from kerastag.files import compute_digest, read_json, write_json

__all__ = ["create_plan", "load_plan", "read_plan", "write_plan"]

_NAME = "plan.json"


def create_plan(model: str | os.PathLike[str], settings: ArchiveSettings, inputs: Sequence[str]) -> dict[str, Any]:
    """Create the plan of an archive, as JSON values.

    Args:
        model: Path of the model file.
        settings: Settings of the archive.
        inputs: Inputs of the archive. If one of them is a relative path, the current folder is a part of the plan.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The model has no card, or a damaged one.
    """
    is_relative = any(not is_url(text) and not Path(text).is_absolute() for text in inputs)
    return {
        "format": FORMAT,
        "kerastag": __version__,
        "model": compute_digest(model),
        "model_path": os.fspath(Path(model).absolute()),
        "base": os.fspath(Path.cwd()) if is_relative else "",
        "settings": settings.as_dict(),
        "card": Card.read(Path(model)).as_dict(),
    }


def read_plan(folder: Path, plan: dict[str, Any]) -> bool:
    """Return whether an archive has a plan already, which must be the same.

    Raises:
        ValueError: The plan is damaged, is of a newer version, or differs in the model or in a setting, which the
            message names.
    """
    path = folder / _NAME
    if not path.is_file():
        if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise ValueError(f"{folder}: must be an archive or an empty folder; received: other files")
        return False
    old = load_plan(folder)
    for name in ("model", "base"):
        _compare(folder, name, old.get(name), plan[name])
    settings = old.get("settings")
    for name, value in plan["settings"].items():
        _compare(folder, name, settings.get(name) if isinstance(settings, dict) else None, value)
    return True


def load_plan(folder: Path) -> dict[str, Any]:
    """Read the plan of an archive.

    Raises:
        FileNotFoundError: The folder is not an archive.
        ValueError: The plan is damaged, or of a newer version.
    """
    path = folder / _NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not an archive (no {_NAME})")
    plan = read_json(path)
    if plan.get("format") != FORMAT:
        raise ValueError(f"{path}: `format` must be {FORMAT}; received: {plan.get('format')!r}")
    return plan


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan of a new archive."""
    write_json(folder / _NAME, plan)


def _compare(folder: Path, name: str, old: Any, new: Any) -> None:
    if old != new:
        raise ValueError(
            f"{folder}: `{name}` must be {old!r}, as in its first run; received: {new!r}; use another output folder"
        )
