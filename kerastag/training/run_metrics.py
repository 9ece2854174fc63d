"""The metrics of a finished run, and what a reader of its `metrics.json` relies on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kerastag.files import read_json

__all__ = ["read_metrics"]

# Names that `metrics.json` had before version 0.1.
_OLD_METRICS = {"localisation": "localization", "figures": "metrics"}

# What `metrics.json` holds where it has these keys: a set of types for a value, a list of them for a list, a dictionary
# for a dictionary, where `*` is any key.
_NUMBER = {int, float, type(None)}
_CLASS_METRICS = {
    **dict.fromkeys(("map", "mauc", "d_prime", "num_clips"), _NUMBER),
    **{key: [_NUMBER] for key in ("average_precision", "auc", "num_positives", "skipped_classes", "left_out")},
}
_METRICS: dict[str, Any] = {
    **dict.fromkeys(("ensemble", "averaged", "last", "global", "local", "train", "metrics"), _CLASS_METRICS),
    "evaluated": {str},
    "class_counts": {"*": [{int}]},
    "labels_per_clip": {"*": {"*": {int}}},
    "labels": {"mids": [{str}], "names": [{str}]},
    "localization": {"*": {"*": _NUMBER}},
}
_JSON_NAMES: dict[type, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    type(None): "null",
    list: "a list",
    dict: "a dictionary",
}
_OPTIONAL_METRICS = ("averaged", "last", "global", "local", "train", "localization")


def read_metrics(file: Path, required: Iterable[str] = ()) -> dict[str, Any]:
    """Read the metrics of a run.

    Args:
        file: Path of its `metrics.json`.
        required: Keys that it must have, such as `ensemble.map`.

    Raises:
        ValueError: The file is damaged, lacks a key, or has a value of another type.
    """
    metrics = {_OLD_METRICS.get(name, name): value for name, value in read_json(file).items()}
    for key in required:
        value: Any = metrics
        for name in key.split("."):
            if not isinstance(value, dict) or name not in value:
                raise ValueError(f"{file}: key `{key}` is missing")
            value = value[name]
    _check_types(file, "", metrics, _METRICS)
    return metrics


def _check_types(file: Path, key: str, value: Any, expected: Any) -> None:
    """Raise a ValueError that names the file and the key unless a JSON value has the expected types."""
    if key in _OPTIONAL_METRICS and not value:
        return
    if isinstance(expected, set):
        if type(value) not in expected:
            names = " or ".join(sorted(_JSON_NAMES[each] for each in expected))
            raise ValueError(f"{file}: `{key}` must be {names}; received: {value!r:.80}")
    elif not isinstance(value, type(expected)):
        raise ValueError(f"{file}: `{key}` must be {_JSON_NAMES[type(expected)]}; received: {value!r:.80}")
    elif isinstance(value, list):
        for item in value:
            _check_types(file, key, item, expected[0])
    else:
        for name, item in value.items():
            if (item_type := expected.get(name, expected.get("*"))) is not None:
                _check_types(file, f"{key}.{name}" if key else name, item, item_type)
