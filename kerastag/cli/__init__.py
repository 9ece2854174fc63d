"""The `kerastag` command, with one module per verb.

The module of a verb has two functions: `add_parser(subparsers)` declares its arguments, and `run(args)` calls one
function of the library with them. Importing the package, and printing any help text, loads no framework.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from kerastag._command import flush_or_discard, hyphenate_options, mask_urls, normalize_options, run_command
from kerastag._version import __version__

__all__ = ["ALIASES", "VERBS", "build_parser", "main"]

VERBS = {
    "tag": "tag",
    "archive": "archive",
    "archive-search": "archive_search",
    "stream": "stream",
    "serve": "serve",
    "fetch": "fetch",
    "import": "import_weights",
    "pack": "pack",
    "plot-clip": "plot_clip",
    "make-soundscapes": "make_soundscapes",
    "train": "train",
    "learn": "learn",
    "custom": "custom",
    "report": "report",
    "review": "review",
    "evaluate": "evaluate",
    "compare": "compare",
    "score-events": "score_events",
    "tables": "tables",
    "export": "export",
    "doctor": "doctor",
}
"""Module of each verb, in the order of the help text."""

ALIASES = {"scenes": "make-soundscapes", "when": "score-events"}
"""Verbs by their former names, which are accepted until version 0.2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `kerastag` command with arguments, by default those of the process, and return the exit status.

    Raises:
        SystemExit: The arguments are invalid, or ask for help.
    """
    argv = normalize_options(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in ALIASES:
        verb = ALIASES[argv[0]]
        print(f"kerastag {argv[0]}: warning: this verb is now called {verb}", file=sys.stderr)
        argv[0] = verb
    if argv[:2] == ["archive", "search"]:  # A folder of this name is ./search.
        argv[:2] = ["archive-search"]
    if argv[:1] == ["compare"]:  # argparse drops `--`, which separates the runs of two systems.
        argv = ["--with" if argument == "--" else argument for argument in argv]
    try:
        args = build_parser().parse_args(argv)
    except SystemExit:
        flush_or_discard()  # The reader of the help text may have left.
        raise
    debug = args.debug if "debug" in args else "--debug" in args.arguments
    return run_command(f"kerastag {args.verb}", lambda: _import_verb(args.verb).run(args), debug=debug)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all verbs."""
    parser = _Parser(prog="kerastag", description="Weakly labeled audio tagging.")
    parser.add_argument(
        "--version", action="version", version=f"kerastag {__version__}", help="Show the version and exit."
    )
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        default=argparse.SUPPRESS,
        choices=("bash", "zsh", "fish"),
        help="Print a completion script for a shell and exit.",
    )
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")
    for verb in VERBS:
        _import_verb(verb).add_parser(subparsers)
    _finish(parser)
    return parser


def _import_verb(verb: str) -> ModuleType:
    return import_module(f"kerastag.cli.{VERBS[verb]}")


def _finish(parser: argparse.ArgumentParser) -> None:
    """Spell options with hyphens and replace argparse's own text of `--help`, in the parsers of the verbs too."""
    hyphenate_options(parser)
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            action.help = "Show this text and exit."
        elif isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _finish(subparser)


class _Parser(argparse.ArgumentParser):
    """A parser, and the class of the parsers of its verbs, whose messages have no passwords."""

    def error(self, message: str) -> NoReturn:
        super().error(mask_urls(message))


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, option: object = None) -> None:
        from kerastag.cli.completion import print_completion

        parser.exit(run_command("kerastag", lambda: print_completion(parser, values)))
