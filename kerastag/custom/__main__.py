"""`python -m kerastag.custom`, which is `kerastag custom`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kerastag._command import normalize_options, run_command
from kerastag._config_parser import make_config_parser, parse_config, read_toml
from kerastag.custom.config import CustomConfig

__all__ = ["main", "parse_arguments"]

_DESCRIPTION = """\
Train a tagger of your own sounds. A pretrained backbone computes embeddings of every recording, and a head with
feature-level attention is trained on them. The tagger is evaluated by cross-validation and then trained on all
recordings.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with its arguments, by default those of the process, and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command("kerastag custom", lambda: _run(parse_arguments(arguments)), debug="--debug" in arguments)


def parse_arguments(argv: Sequence[str]) -> CustomConfig:
    """Parse the arguments of the command: flags override TOML files, which override the defaults.

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
    parser = make_config_parser("kerastag custom", _DESCRIPTION, CustomConfig, "TOML file; can be given several times.")
    return CustomConfig(**parse_config(parser, flags, CustomConfig, [(path, read_toml(path)) for path in args.config]))


def _run(config: CustomConfig) -> None:
    from kerastag.custom.report import format_results
    from kerastag.custom.run import get_run_path, train_custom_tagger
    from kerastag.training.run_folder import RunFolder

    train_custom_tagger(config)
    print(format_results(RunFolder.open(get_run_path(config))))


if __name__ == "__main__":
    sys.exit(main())
