"""Tests of the documentation: its commands exist, with every verb, recipe, row, overlay and flag that they name."""

import re
import shlex
from importlib import import_module

import pytest

from checks import ROOT
from kerastag._command import normalize_options
from kerastag._configs import list_configs
from kerastag.cli import VERBS, build_parser
from kerastag.recipes._papers import find_row, recipe_names

DOCUMENTS = (
    "README.md",
    "RESULTS.md",
    "BENCHMARKS.md",
    "CONTRIBUTING.md",
    "export/raspberry_pi/README.md",
    "docs/runs.md",
    "docs/serve.md",
    "docs/stream.md",
    "docs/labels.md",
    "docs/learn.md",
    "docs/review.md",
    "docs/tag.md",
    "docs/archive.md",
    "docs/reliability.md",
    "docs/full_audioset.md",
)
PLACEHOLDER = re.compile(r"[A-Z_]+|…|\.\.\.")


def find_commands():
    """Find the commands `kerastag …` in blocks of code and in code spans that have arguments."""
    commands = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = [
            line.split("  #")[0].strip()
            for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
            for line in block.splitlines()
        ]
        lines += re.findall(r"`(kerastag [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S).replace("\n", " "))
        commands += [(name, line) for line in lines if line.startswith("kerastag ") and "VERB" not in line]
    return commands


COMMANDS = find_commands()


def known_options(verb, arguments):
    """Return the options of a verb, or of the recipe that `train` runs."""
    if verb == "train":
        rows = [arguments[i + 1] for i, argument in enumerate(arguments[:-1]) if argument == "--row"]
        for row in rows:
            if not PLACEHOLDER.fullmatch(row):
                find_row(row)
        name = arguments[0] if arguments and not arguments[0].startswith("-") else "gl_at"
        if not PLACEHOLDER.fullmatch(name):
            assert name in recipe_names()
        else:
            name = "gl_at"
        for i, argument in enumerate(arguments[:-1]):
            if argument == "--config":
                assert arguments[i + 1] in list_configs("recipes")
        fields = import_module(f"kerastag.recipes.{name}").RECIPE.config.__dataclass_fields__
        return {
            "--config",
            "--row",
            "--smoke",
            "--list",
            "--help",
            "--debug",
            *(f"--{f.replace('_', '-')}" for f in fields),
        }
    if verb in ("custom", "learn"):
        from kerastag.custom import CustomConfig

        fields = CustomConfig.__dataclass_fields__
        return {"--config", "--help", "--debug", *(f"--{f.replace('_', '-')}" for f in fields)}
    subparsers = next(action for action in build_parser()._actions if action.dest == "verb")
    parser = subparsers.choices[verb]
    nested = [action for action in parser._actions if getattr(action, "choices", None) and action.dest == "kind"]
    options = {option for action in parser._actions for option in action.option_strings}
    for action in nested:
        for subparser in action.choices.values():
            options |= {option for sub in subparser._actions for option in sub.option_strings}
    return options


def test_the_documents_have_commands():
    assert len(COMMANDS) > 20
    assert {name for name, _ in COMMANDS} >= {"README.md", "RESULTS.md"}


@pytest.mark.parametrize(("document", "command"), COMMANDS, ids=[f"{name}: {command}" for name, command in COMMANDS])
def test_a_command_in_the_documentation_exists(document, command):
    verb, *arguments = shlex.split(command)[1:]
    if (verb, arguments[:1]) == ("archive", ["search"]):
        verb = "archive-search"
    if verb.startswith("--"):
        assert verb in ("--print-completion", "--version", "--help")
        return
    assert verb in VERBS
    options = known_options(verb, arguments)
    used = {argument.split("=")[0] for argument in normalize_options(arguments) if argument[:2] == "--" != argument}
    assert used <= options, used - options


@pytest.mark.parametrize("verb", ["tag", "archive", "review"])
def test_every_option_of_a_verb_is_in_a_command_of_its_page(verb):
    page = [command for name, command in COMMANDS if name == f"docs/{verb}.md"]
    used = {argument for command in page for argument in shlex.split(command) if argument.startswith("--")}
    assert known_options(verb, []) - used - {"--help"} == {"-h", "--debug"}
