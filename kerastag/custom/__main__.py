"""`python -m kerastag.custom`, which is `kerastag custom`; and the arguments of `kerastag learn`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from kerastag._command import normalize_options, run_command
from kerastag._config_parser import make_config_parser, parse_config, read_toml
from kerastag.custom.config import CustomConfig

__all__ = ["LEARN_DEFAULTS", "main", "parse_arguments"]

LEARN_DEFAULTS: Mapping[str, Any] = {"deploy": True}
"""Values that differ from those of `kerastag custom`."""

_DESCRIPTION = """\
Train a tagger of your own sounds. A pretrained backbone computes embeddings of every recording, and a head is trained
on them. The tagger is evaluated by cross-validation and then trained on all recordings.
"""
_LEARN_DESCRIPTION = """\
Train a tagger of your own sounds for a device, from a folder with one folder of recordings per class, or a table of
labels. The tagger is evaluated by cross-validation, trained on all recordings and exported; the exported files are
compared with what was trained; thresholds are chosen for a number of false alarms per day on simulated streams; and a
report is written.
"""


def main(argv: Sequence[str] | None = None, verb: str = "custom") -> int:
    """Run the command with its arguments, by default those of the process, and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command(f"kerastag {verb}", lambda: _run(parse_arguments(arguments, verb)), debug="--debug" in arguments)


def parse_arguments(argv: Sequence[str], verb: str = "custom") -> CustomConfig:
    """Parse the arguments of a command: flags override TOML files, which override the defaults.

    Args:
        argv: Arguments.
        verb: `custom`; or `learn`, which takes the recordings as an argument and has the defaults `LEARN_DEFAULTS`.

    Raises:
        FileNotFoundError: There is no such TOML file.
        ValueError: A flag, a key or a value is not allowed; a TOML file is named.
    """
    file_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    file_parser.add_argument("--config", action="append", default=[], type=Path)
    try:
        args, flags = file_parser.parse_known_args(normalize_options(argv))
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    flags = _complete_switches(flags)
    is_learn = verb == "learn"
    description = _LEARN_DESCRIPTION if is_learn else _DESCRIPTION
    parser = make_config_parser(f"kerastag {verb}", description, CustomConfig, "TOML file; can be given several times.")
    layers: list[tuple[Path | str, Mapping[str, Any]]] = [(path, read_toml(path)) for path in args.config]
    if is_learn:
        parser.add_argument(
            "recordings",
            nargs="?",
            help="Folder with one folder per class, or a table of labels beside its recordings.",
        )
        layers.insert(0, ("kerastag learn", LEARN_DEFAULTS))
    values = parse_config(parser, flags, CustomConfig, layers, ("recordings",) if is_learn else ())
    if recordings := values.pop("recordings", None):
        values |= _place_recordings(recordings, values)
    elif is_learn and not values["audio_dir"]:
        raise ValueError(
            "`recordings` must be a folder with one folder per class, or a table of labels; received: none"
        )
    return CustomConfig(**values)


def _complete_switches(flags: Sequence[str]) -> list[str]:
    """Add `true` after the options that are true or false and have no value."""
    switches = {f"--{field.name.replace('_', '-')}" for field in fields(CustomConfig) if field.type in (bool, "bool")}
    pairs = zip(flags, [*flags[1:], ""], strict=False)
    return [
        f"{flag}=true" if flag in switches and value.lower() not in ("true", "false") else flag for flag, value in pairs
    ]


def _place_recordings(recordings: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the folder and the table that the argument of `kerastag learn` stands for."""
    if Path(recordings).is_dir():
        if values["audio_dir"]:
            raise ValueError(f"`recordings` must be a table where --audio-dir is given; received: {recordings!r}")
        return {"audio_dir": recordings}
    if not Path(recordings).is_file():
        raise FileNotFoundError(f"{recordings}: no such folder or table of labels")
    if values["labels"]:
        raise ValueError(f"`recordings` must be a folder where --labels is given; received: {recordings!r}")
    return {"labels": recordings, "audio_dir": values["audio_dir"] or str(Path(recordings).parent)}


def _run(config: CustomConfig) -> None:
    from kerastag.custom.progress import show_progress

    with show_progress("loading Keras"):
        from kerastag.custom.report import format_results
        from kerastag.custom.run import get_run_path, train_custom_tagger
        from kerastag.training.run_folder import RunFolder

    train_custom_tagger(config)
    print(format_results(RunFolder.open(get_run_path(config))))


if __name__ == "__main__":
    sys.exit(main())
