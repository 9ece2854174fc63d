"""`python -m kerastag.custom`, which is `kerastag custom`."""

import sys
from collections.abc import Sequence

from kerastag._command import run_command
from kerastag.custom.config import CustomConfig, parse_arguments

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: Arguments of the command; by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_command("kerastag custom", lambda: _run(parse_arguments(arguments)), debug="--debug" in arguments)


def _run(config: CustomConfig) -> None:
    from kerastag.custom.report import format_results
    from kerastag.custom.run import get_run_path, train_custom_tagger
    from kerastag.training.run_folder import RunFolder

    train_custom_tagger(config)
    print(format_results(RunFolder.open(get_run_path(config))))


if __name__ == "__main__":
    sys.exit(main())
