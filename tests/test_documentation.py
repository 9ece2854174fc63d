"""Tests of the documentation: its commands exist, with every verb, recipe, row, overlay and flag that they name.

A block of shell commands, which has no language or is `bash`, is run by tests/test_documented_commands.py, unless the
line above it is a comment: `<!-- run in tests/… -->` names the file of another test, which names the document,
`<!-- run in .ci/run -->` means the steps of CI, and `<!-- not run: needs … -->` states why nothing runs it: it needs
the network, a GPU, a Raspberry Pi, or hours of computation. Blocks of output have a language, such as `text` or `json`.
"""

import argparse
import functools
import re
import shlex
from importlib import import_module

import pytest

from checks import ROOT
from docs._pages import find_links, list_pages, read_page
from kerastag._command import normalize_options
from kerastag._configs import list_configs
from kerastag.cli import VERBS, build_parser
from kerastag.recipes._papers import find_row, recipe_names

DOCUMENTS = (
    *("README.md", "RESULTS.md", "BENCHMARKS.md", "CONTRIBUTING.md", "export/raspberry_pi/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
)
REASON = re.compile(r"not run: needs (the network|a network of|a GPU|a Raspberry Pi|hours of computation)\b.*")
PLACEHOLDER = re.compile(r"[A-Z_]+|…|\.\.\.")


def find_commands():
    """Find the commands `kerastag …` in blocks of code and in code spans that have arguments."""
    commands = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = [
            line.split("  #")[0].strip()
            for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
            for line in block.replace("\\\n", " ").splitlines()
        ]
        lines += re.findall(r"`(kerastag [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S).replace("\n", " "))
        commands += [(name, line) for line in lines if line.startswith("kerastag ") and "VERB" not in line]
    return commands


def find_shell_blocks():
    """Find the blocks of shell commands: document, number of the line, commands, and the comment above."""
    pattern = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        (name, text[: match.start()].count("\n") + 1, match[3], match[1])
        for name in DOCUMENTS
        for text in [(ROOT / name).read_text(encoding="utf-8")]
        for match in pattern.finditer(text)
        if match[2] in ("", "bash", "sh")
    ]


COMMANDS = find_commands()
SHELL_BLOCKS = find_shell_blocks()
TASKS = {
    "tag recordings": ("tag.md", "kerastag tag"),
    "tag a microphone": ("stream.md", "kerastag stream"),
    "set up a Raspberry Pi": ("raspberry_pi.md", "install.sh"),
    "detect my own sounds": ("learn.md", "kerastag learn"),
    "correct a detector by answering questions": ("review.md", "kerastag review"),
    "run a server": ("serve.md", "kerastag serve"),
    "tag an archive": ("archive.md", "kerastag archive"),
    "find sounds like an example": ("archive.md", "kerastag archive search"),
    "export a model for a device": ("export.md", "kerastag export"),
    "train a system of the papers": ("papers.md", "kerastag train"),
    "compare two systems": ("papers.md", "kerastag compare"),
    "read a table of labels": ("labels.md", "kerastag pack audio"),
}
"""Page and command of a task, by what a newcomer wants to do."""


@functools.cache
def build_parsers():
    """Build the parsers of the verbs once."""
    return next(action for action in build_parser()._actions if action.dest == "verb").choices


def known_options(verb, arguments):
    """Return the options of a verb, or of the recipe that `train` runs."""
    if verb == "train":
        rows = [arguments[i + 1] for i, argument in enumerate(arguments[:-1]) if argument == "--row"]
        recipes = [find_row(row).recipe for row in rows if not PLACEHOLDER.fullmatch(row)] or ["gl_at"]
        name = arguments[0] if arguments and not arguments[0].startswith("-") else recipes[0]
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
    parser = build_parsers()[verb]
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
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


@pytest.fixture(scope="module")
def near_pages():
    """Return the pages that are at most two clicks from the start page, by their path in the site."""
    sources = {page: source for source, page in list_pages().items()}
    pages = {"index.md": read_page("docs/index.md")}
    for _ in range(2):
        links = {target.partition("#")[0] for text in pages.values() for target in find_links(text)}
        pages |= {page: read_page(sources[page]) for page in links & sources.keys() - pages.keys()}
    return pages


@pytest.mark.parametrize("task", TASKS)
def test_a_newcomer_finds_the_command_of_a_task_within_two_clicks(task, near_pages):
    page, command = TASKS[task]
    assert command in near_pages.get(page, ""), f"{page} is not within two clicks, or lacks {command}"


def test_every_shell_block_is_run_or_states_why_not():
    assert len(SHELL_BLOCKS) > 50
    steps = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for document, line, code, comment in SHELL_BLOCKS:
        place = f"{document}, line {line}"
        if comment is None:
            assert document.startswith("docs/"), f"{place}: `<!-- not run: REASON -->` must be above the block"
        elif test := re.fullmatch(r"run in (tests/\S+\.py)", comment):
            assert document.rpartition("/")[2] in (ROOT / test[1]).read_text(encoding="utf-8"), place
        elif comment == "run in .ci/run":
            targets = re.findall(r"^make (\S+)", code, re.MULTILINE)
            assert all(f"make {target}" in steps for target in targets), place
        else:
            assert REASON.fullmatch(comment), f"{place}: {comment}"
