"""Command lines, `--help` and TOML keys that come from a configuration dataclass, through jsonargparse."""

import dataclasses
import tomllib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerastag._command import hyphenate_options, normalize_options

__all__ = ["make_config_parser", "parse_config", "read_toml"]


def make_config_parser(prog: str, description: str, config_class: type, config_help: str) -> Any:
    """Make a parser with the options `--config`, `--print-config`, `--debug` and one for each field of a dataclass.

    Args:
        prog: Name of the command.
        description: Text of `--help`.
        config_class: Configuration dataclass, whose docstring explains every field.
        config_help: Help text of `--config`.
    """
    import jsonargparse

    parser = jsonargparse.ArgumentParser(
        prog=prog,
        description=" ".join(description.split()),
        parser_mode="toml",
        exit_on_error=False,
        print_config="--print-config",
    )
    parser.add_argument("--config", action="config", help=config_help)
    parser.add_class_arguments(config_class, None)
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    return parser


def parse_config(
    parser: Any,
    argv: Sequence[str],
    config_class: type,
    layers: Iterable[tuple[Path | str, Mapping[str, Any]]] = (),
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Parse arguments into the fields of a configuration.

    Args:
        parser: Parser from `make_config_parser`.
        argv: Arguments without `--config`.
        config_class: Configuration dataclass.
        layers: Values that override the defaults, in increasing priority, each with the file they are from. Arguments
            override them.
        others: Names of further arguments of the parser.

    Returns:
        Values by field name, with which `config_class` is created, and those of `others`.

    Raises:
        ValueError: An option, a key or a value is not allowed; the file is named.
    """
    import jsonargparse

    hyphenate_options(parser)
    for source, values in layers:
        try:
            parsed = parser.parse_object(dict(values), defaults=False)
        except Exception as error:  # jsonargparse raises errors of many types
            raise ValueError(f"{source}: {error}") from error
        parser.set_defaults(parsed.as_dict())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            namespace = parser.parse_args(normalize_options(argv))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise ValueError(str(error)) from error
    names = (*(field.name for field in dataclasses.fields(config_class)), *others)
    fields = {name: namespace[name] for name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not valid TOML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # invalid TOML and invalid UTF-8 alike
        raise ValueError(f"{path}: not a TOML file: {error}") from error
