"""Writes `report.html` and `predictions.csv` of a finished run from its saved results."""

import base64
import csv
import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kerastag._command import replace_unprintable
from kerastag.bundled import PAGE_FOLDER
from kerastag.custom.__main__ import LEARN_DEFAULTS
from kerastag.custom.concerns import list_concerns
from kerastag.custom.config import CustomConfig
from kerastag.custom.page.content import CHART_SIZE, prepare_content
from kerastag.custom.predictions import RunPredictions
from kerastag.files import read_json, write_text
from kerastag.tagger.terminal import make_printable
from kerastag.training.run_folder import RunFolder

__all__ = ["write_report"]

_FOLDER = Path(__file__).parent
_MAX_NAME_LENGTH = 90


def write_report(folder: RunFolder) -> Path:
    """Write the report of a finished run as one page, and its predictions as CSV, from what the run has saved.

    Args:
        folder: Folder of a finished run of `kerastag learn`.

    Returns:
        Path of the page, `report.html` in the run folder.

    Raises:
        FileNotFoundError: The run is not finished, or has no `report.npz`.
        ValueError: It is a run of another system, or a file of it is damaged.
    """
    if folder.system != "custom":
        raise ValueError(f"{folder.path}: must be a run of `kerastag learn`; received: one of {folder.system}")
    metrics = folder.metrics("classes", "folds", "metrics.map", "thresholds")
    if not folder.report_data_path.is_file():
        raise FileNotFoundError(f"{folder.report_data_path}: no such file: runs of earlier versions have no report")
    predictions = RunPredictions.read(folder.report_data_path)
    names = tuple(metrics["classes"])
    if predictions.targets.shape[1] != len(names):
        expected = f"must have {len(names)} classes, as metrics.json"
        raise ValueError(f"{folder.report_data_path}: {expected}; received: {predictions.targets.shape[1]}")
    class_rows = list(csv.DictReader(folder.read_text("classes.csv").splitlines()))
    text = _render(
        **prepare_content(predictions, metrics, class_rows, folder.path),
        run=str(folder.path),
        config=folder.config,
        versions=read_json(folder.path / "versions.json"),
        model_card=folder.card(),
        concerns=list_concerns(folder),
        chart=CHART_SIZE,
        command=_format_command(folder.config),
    )
    predictions.save_table(folder.predictions_path, names)
    return write_text(folder.report_path, text)


def _format_command(config: Mapping[str, Any]) -> str:
    """Format the command of a run, with the options that are not the defaults."""
    verb, learn_defaults = ("learn", LEARN_DEFAULTS) if config.get("deploy") else ("custom", {})
    defaults: dict[str, Any] = {**{field.name: field.default for field in fields(CustomConfig)}, **learn_defaults}
    parts = ["kerastag", verb]
    for name, default in defaults.items():
        value = config.get(name, default)
        if name == "audio_dir" and verb == "learn":
            parts.append(value)
        elif value != (list(default) if isinstance(default, tuple) else default):
            parts += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(parts)


def _render(**content: Any) -> str:
    """Fill in the template; text is escaped, and characters that no page can show are replaced."""
    style = "\n".join(path.read_text(encoding="utf-8") for path in (PAGE_FOLDER / "base.css", _FOLDER / "report.css"))
    theme = (PAGE_FOLDER / "theme.js").read_text(encoding="utf-8")
    script = (_FOLDER / "report.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_replace_characters,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"shorten": _shorten, "percent": _format_percent, "number": _format_number}
    inline = {"style": style, "theme": theme, "script": script}
    return environment.get_template("report.html").render(
        **{name: Markup(text) for name, text in inline.items()},  # files of this package
        **{f"{name}_hash": _hash_inline(text) for name, text in inline.items()},
        **content,
    )


def _hash_inline(text: str) -> str:
    """Compute the hash by which a content security policy allows a style or a script within a page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _replace_characters(value: Any) -> Any:
    return replace_unprintable(make_printable(value)) if type(value) is str else value


def _shorten(text: str) -> str:
    """Leave out the middle of a long name."""
    half = (_MAX_NAME_LENGTH - 1) // 2
    return text if len(text) <= _MAX_NAME_LENGTH else f"{text[:half]}…{text[-half:]}"


def _format_percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _format_number(value: float) -> str:
    """Format a number with two significant digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
