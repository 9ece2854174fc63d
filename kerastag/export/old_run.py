"""Reader of the run folders of embedding models written before version 0.1.0, whose models have no card.

Remove this module once the command line passes `card=` to `export_model` for such folders.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kerastag.files import read_json
from kerastag.labels import LabelSet
from kerastag.models import MODELS

__all__ = ["OldRun", "read_old_run"]


class OldRun(NamedTuple):
    """Contents of a run folder that belong on the card of its model."""

    labels: LabelSet
    origin: str
    versions: Mapping[str, str]


def read_old_run(folder: Path) -> OldRun | None:
    """Read a run folder of an embedding model; return None for any other folder."""
    if not (folder / "settings.json").is_file():
        return None
    settings = read_json(folder / "settings.json")
    entry = MODELS.get(settings.get("system", ""))
    if entry is None or entry.front_end is not None:
        return None
    origin = f"{settings['system']}, trained by kerastag on {', '.join(settings.get('train_packs', ()))}"
    return OldRun(_read_labels(folder / "classes.csv"), origin, _read_versions(folder / "versions.json"))


def _read_labels(path: Path) -> LabelSet:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the run may not be finished")
    with path.open(newline="", encoding="utf-8") as file:
        names = [row.get("display_name", "") for row in csv.DictReader(file)]
    audioset = LabelSet.audioset()
    try:
        return audioset if tuple(names) == audioset.names else LabelSet.from_names(names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_versions(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return {}
