"""From the command line to the configuration of a recipe.

In increasing priority: the defaults of the recipe, the row of a paper (`--row`), overlays (`--config`, several times),
and flags. An overlay is a TOML file. Its keys are fields of the configuration; the keys of a table apply only to the
recipe, or the kind of recipe, that the table is named after.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerastag._command import normalize_options
from kerastag._config_parser import make_config_parser, parse_config, read_toml
from kerastag._configs import find_config
from kerastag.recipes._papers import find_row, recipe_names

__all__ = ["KINDS", "parse_arguments"]

KINDS = ("embeddings", "waveforms", "two_streams", "scores")
_CONFIG_HELP = "TOML file, or the name of an overlay: balanced, synthetic, …; can be given several times."
_SMOKE_HELP = "Three steps with a tiny batch and the model at full size, in runs/NAME/smoke by default."
_SMOKE = {"steps": 3, "batch_size": 8, "evaluate_every": 0, "checkpoints": 2, "warmup_steps": 0}


def parse_arguments(
    argv: Sequence[str], *, name: str, kind: str, description: str, config_class: type, defaults: Mapping[str, Any]
) -> Any:
    """Parse the arguments of a recipe.

    Without `--config`, `--row` and `--data-dir`, the overlay is `synthetic`.

    Args:
        argv: Arguments of the command.
        name: Name of the recipe.
        kind: One of `KINDS`.
        description: Text of `--help`.
        config_class: Configuration dataclass.
        defaults: Values that differ from the defaults of the dataclass.

    Returns:
        An instance of `config_class`.

    Raises:
        ValueError: A flag, a key or a value is not allowed; the TOML file is named.
        FileNotFoundError: There is no such TOML file.
    """
    selection, argv = _parse_selection(normalize_options(argv))
    parser = make_config_parser(f"kerastag train {name}", description, config_class, _CONFIG_HELP)
    parser.add_argument("--row", help="Name of a row of a paper's tables, from recipes/paper1.toml or paper2.toml.")
    parser.add_argument("--smoke", action="store_true", help=_SMOKE_HELP)
    parser.set_defaults(dict(defaults))
    has_data = any(argument.split("=")[0] == "--data-dir" for argument in argv)
    fields = parse_config(parser, argv, config_class, _layers(selection, has_data, name, kind))
    return config_class(**(_shorten(fields, name) if selection.smoke else fields))


def _parse_selection(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the flags that select a configuration, and return the rest of the arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--row")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--debug", action="store_true")
    try:
        return parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error


def _layers(
    selection: argparse.Namespace, has_data: bool, name: str, kind: str
) -> list[tuple[Path, Mapping[str, Any]]]:
    """Return the values that override the defaults, in increasing priority, each with the file they are from."""
    row = find_row(selection.row, name) if selection.row else None
    if row is None and not selection.config and not has_data:
        path = find_config("recipes", "synthetic")
        return [(path, _read_overlay(path, name, kind, is_required=False))]
    layers: list[tuple[Path, Mapping[str, Any]]] = [(row.source, row.config)] if row else []
    for overlay in selection.config:
        path = find_config("recipes", overlay)
        layers.append((path, _read_overlay(path, name, kind)))
        if row is not None and path.stem in row.overlays:
            layers.append((row.source, row.overlays[path.stem]))
    return layers


def _read_overlay(path: Path, name: str, kind: str, is_required: bool = True) -> dict[str, Any]:
    """Read the values of an overlay that apply to a recipe."""
    content = read_toml(path)
    tables = {key: content.pop(key) for key, value in list(content.items()) if isinstance(value, dict)}
    allowed = (*KINDS, *recipe_names())
    for key in tables:
        if key not in allowed:
            raise ValueError(f"{path}: table `{key}` must be named after a recipe or one of {', '.join(KINDS)}")
    values = {**content, **tables.get(kind, {}), **tables.get(name, {})}
    if is_required and not values and tables and not tables.keys() & {kind, name}:
        raise ValueError(f"{path}: has no values for {name}, only for {', '.join(tables)}")
    return values


def _shorten(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Shorten a run to three small steps; without a `run_dir`, in an empty folder of its own."""
    shortened = {**fields, **{field: value for field, value in _SMOKE.items() if field in fields}}
    if shortened.get("run_dir", "") is None:
        folder = Path("runs", name, "smoke")
        shutil.rmtree(folder, ignore_errors=True)
        shortened["run_dir"] = str(folder)
    return shortened
