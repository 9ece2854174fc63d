"""`kerastag stream`: tag live audio.

The arguments are the fields of `StreamConfig`, with their types, defaults and descriptions.
"""

import argparse
import dataclasses
import functools
import inspect
import re
import types
import typing
import warnings
from typing import Any

from kerastag._command import log_line
from kerastag.cli.parsers import add_verb

_SPECIAL_OPTIONS: dict[str, dict[str, Any]] = {
    "output": {"action": "append"},
    "classes": {"nargs": "+", "metavar": "CLASS"},
    "stats": {"nargs": "?", "const": 0.0, "metavar": "SECONDS"},
}


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    from kerastag.edge.config import StreamConfig

    parser = add_verb(subparsers, "stream", "Tag live audio.")
    parser.add_argument(
        "--config", metavar="TOML", help="Path of a TOML file whose keys are the names of these options; options win."
    )
    descriptions, hints = _read_descriptions(StreamConfig), typing.get_type_hints(StreamConfig)
    for field in dataclasses.fields(StreamConfig):
        options = _create_options(field, hints[field.name])
        if options is not None:
            text = descriptions[field.name].removesuffix(".") + _format_default(field.default) + "."
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                help=text.replace("%", "%%"),
                default=argparse.SUPPRESS,  # The default is that of the configuration file, or else of the field.
                **options,
            )


def run(args: argparse.Namespace) -> None:
    """Run the stream until it ends."""
    from kerastag.audio import AudioWarning
    from kerastag.edge.config import StreamConfig, load_stream_config
    from kerastag.edge.service import run_stream

    overrides = {name: value for name, value in vars(args).items() if name in StreamConfig.__dataclass_fields__}
    if "output" in overrides:
        # A comma in a password or in the name of a file is not followed by a kind of output.
        parts = (re.split(r",(?=\w+:|\w*(?:,|$))", outputs) for outputs in overrides["output"])
        overrides["output"] = [output for outputs in parts for output in outputs]
    log = functools.partial(log_line, "kerastag stream")
    with warnings.catch_warnings():
        warnings.simplefilter("always", AudioWarning)
        warnings.showwarning = lambda message, *_: log(f"warning: {message}")
        run_stream(config=load_stream_config(args.config, overrides), log=log)


def _create_options(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any] | None:
    """Return the options of `add_argument` for a field; None for a table, which only a file can hold."""
    kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint
    options: dict[str, Any] = {"metavar": field.name.rpartition("_")[2].upper()}
    if kind is bool:
        return {"action": "store_true"}
    if typing.get_origin(kind) is typing.Literal:
        return {"choices": typing.get_args(kind)}
    if kind in (int, float):
        options["type"] = kind
    elif typing.get_origin(kind) not in (None, tuple):
        return None
    return {**options, **_SPECIAL_OPTIONS.get(field.name, {})}


def _read_descriptions(config_class: type) -> dict[str, str]:
    """Return the description of each field in the section `Args` of the docstring."""
    section = (inspect.getdoc(config_class) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _format_default(default: Any) -> str:
    if isinstance(default, tuple):
        default = ", ".join(default)
    has_default = isinstance(default, str | int | float) and default is not False and default != ""
    return f" (default: {default})" if has_default else ""
