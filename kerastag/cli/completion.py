"""Completion scripts for shells."""

import argparse

from kerastag._configs import list_configs
from kerastag.fetch import FILES

__all__ = ["print_completion"]


def print_completion(parser: argparse.ArgumentParser, shell: str) -> None:
    """Print a script for a shell, `"bash"`, `"zsh"` or `"fish"`, that completes the arguments of a parser."""
    try:
        import shtab
    except ImportError:
        raise ImportError("--print-completion needs shtab: pip install 'kerastag[completion]'") from None
    _complete_values(parser, shtab.FILE)
    print(shtab.complete(parser, shell))


def _complete_values(parser: argparse.ArgumentParser, files: object) -> None:
    """Complete names that kerastag knows, and files wherever other text is expected."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _complete_values(subparser, files)
        elif action.nargs == 0 or action.type is not None or action.choices:
            continue
        elif (parser.prog, action.dest) == ("kerastag fetch", "name"):
            action.choices = list(FILES)
        elif (parser.prog, action.dest) == ("kerastag export", "target"):
            action.choices = list_configs("targets")
        else:
            action.complete = files  # type: ignore[attr-defined]
