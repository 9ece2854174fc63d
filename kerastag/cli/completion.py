"""Completion scripts for shells."""

import argparse

__all__ = ["print_completion"]


def print_completion(parser: argparse.ArgumentParser, shell: str) -> None:
    """Print a script that completes the arguments of the command.

    Args:
        parser: Parser of the command.
        shell: `"bash"`, `"zsh"` or `"fish"`.

    Raises:
        ImportError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise ImportError("--print-completion needs shtab: pip install 'kerastag[completion]'") from None
    _complete_values(parser, shtab.FILE)
    print(shtab.complete(parser, shell))


def _complete_values(parser: argparse.ArgumentParser, files: object) -> None:
    """Complete names that kerastag knows, and files wherever text is expected."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _complete_values(subparser, files)
        elif action.nargs != 0 and action.type is None and not action.choices:
            action.choices = _list_names(parser.prog, action.dest)
            if not action.choices:
                action.complete = files  # type: ignore[attr-defined]


def _list_names(prog: str, dest: str) -> list[str] | None:
    if (prog, dest) == ("kerastag fetch", "name"):
        from kerastag.fetch import FILES

        return list(FILES)
    if (prog, dest) == ("kerastag export", "target"):
        from kerastag._configs import list_configs

        return list(list_configs("targets"))
    return None
