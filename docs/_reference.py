"""The pages of the command line and of the Python interface, made from the parsers and the packages."""

import argparse
import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import kerastag
from kerastag._command import hyphenate_options
from kerastag._config_parser import make_config_parser
from kerastag.cli import VERBS, build_parser
from kerastag.files import write_text
from kerastag.markdown import format_table

__all__ = ["GENERATED", "lay_out_docstring", "write_reference"]

PACKAGES = tuple(
    name for name in kerastag.__all__ if (Path(kerastag.__file__).parent / name).is_dir() and name != "recipes"
)
GENERATED = ("command_line.md", "api/index.md", *(f"api/{name}.md" for name in PACKAGES))
"""Pages of this module."""

_COMMAND_LINE = """\
# Command line

Every verb and option, made from the parsers of `kerastag`. `kerastag VERB --help` prints the same. Options may be
spelled with underscores, too. `kerastag --print-completion bash` (or `zsh`, `fish`) prints a script that completes
commands, and `--debug` shows the traceback of an error.

"""
_API = """\
# Python API

The public interface is what each package exports in `__all__`; [what stays compatible](../changelog.md#compatibility)
is stated in the changelog. Subpackages and their frameworks are imported when they are first used.

"""

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
_TITLE = re.compile(r"^(Input shape|Output shape|Mask|Reference|Deviations): ", re.MULTILINE)


def write_reference(folder: Path) -> None:
    """Write the pages into a folder."""
    write_text(folder / "command_line.md", _COMMAND_LINE + "\n".join(describe_verbs()))
    table = format_table(
        ["package", "content"],
        [[f"[`kerastag.{name}`]({name}.md)", describe_package(name).splitlines()[0]] for name in PACKAGES],
    )
    names = [name for name in kerastag.__all__ if name in kerastag._DEFINING_MODULES]
    objects = "\n".join(f"::: {kerastag._DEFINING_MODULES[name]}.{name}\n" for name in names)
    write_text(folder / "api/index.md", f"{_API}{table}\n\n{objects}")
    for name in PACKAGES:
        modules = find_defining_modules(f"kerastag.{name}")
        objects = "\n".join(f"::: {module}.{public_name}\n" for public_name, module in modules.items())
        write_text(folder / f"api/{name}.md", f"# kerastag.{name}\n\n{describe_package(name)}\n\n{objects}")


def describe_package(name: str) -> str:
    """Return the docstring of a package."""
    return lay_out_docstring(inspect.getdoc(import_module(f"kerastag.{name}")) or "")


def lay_out_docstring(text: str) -> str:
    """Make the examples of a docstring blocks of code, and its shapes, mask and references paragraphs with a title."""
    text = _EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", text)
    return _TITLE.sub(r"\n**\1:** ", text)


def find_defining_modules(package: str) -> dict[str, str]:
    """Find the module that defines each public name of a package, without importing a framework.

    A package imports its names from its modules, or lists them by module for `kerastag._lazy.attach`.
    """
    module = import_module(package)
    modules: dict[str, str] = {}
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            modules |= {alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple | ast.List):
                    names = [element.value for element in value.elts if isinstance(element, ast.Constant)]
                    modules |= {str(name): f"{package}.{key.value}" for name in names}
    return {name: modules.get(name, package) for name in module.__all__}


def describe_verbs() -> Iterator[str]:
    """Describe every verb of the command line in Markdown."""
    subparsers = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    descriptions = {choice.dest: str(choice.help) for choice in subparsers._choices_actions}
    for verb in VERBS:
        name = verb.replace("archive-search", "archive search")
        yield f"## kerastag {name}\n\n{descriptions[verb]}\n"
        if verb in ("learn", "custom"):
            from kerastag.custom import CustomConfig

            yield describe_config(f"kerastag {verb}", CustomConfig)
        elif verb == "train":
            yield "`kerastag train --list` prints the [rows of both papers](runs.md).\n"
            for recipe, text in (("feature_attention", "systems that take embeddings"), ("gl_at", "GL-AT")):
                config = import_module(f"kerastag.recipes.{recipe}").RECIPE.config
                yield f"### kerastag train {recipe}\n\nThe options of {text}.\n"
                yield describe_config(f"kerastag train {recipe}", config)
        else:
            yield from describe_parser(subparsers.choices[verb])


def describe_config(command: str, config: type) -> str:
    """Describe a command whose options are the fields of a configuration."""
    parser = make_config_parser(command, "", config, "TOML file; can be given several times.")
    hyphenate_options(parser)
    return "\n".join(describe_parser(parser))


def describe_parser(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Describe the arguments of a parser as tables, one for each group, and those of the parsers below it."""
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest not in ("help", "debug")]
        nested = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
        for action in nested:
            helps = {choice.dest: str(choice.help) for choice in action._choices_actions}
            for name, subparser in action.choices.items():
                yield f"### {subparser.prog}\n\n{helps.get(name, '')}\n"
                yield from describe_parser(subparser)
        rows = [describe_action(action) for action in actions if action not in nested]
        if rows:
            kind = "argument" if group.title == "positional arguments" else "option"
            is_named = group.title and not re.match("positional|options$|Config", group.title)
            yield format_table([f"{kind}: {group.title}" if is_named else kind, "meaning"], rows) + "\n"


def describe_action(action: argparse.Action) -> tuple[str, str]:
    """Describe one argument of a parser: how it is written, and what it means."""
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
    value = "" if action.nargs == 0 else choices or str(action.metavar or action.dest.upper())
    names = ", ".join(action.option_strings)
    text = str(action.help or "").replace("%(default)s", str(action.default))
    has_default = action.option_strings and "default" not in text and action.default != argparse.SUPPRESS
    if has_default and action.default not in (None, False, "", (), []):
        is_list = isinstance(action.default, list | tuple)
        text += f" (default: {', '.join(map(str, action.default)) if is_list else action.default})"
    return f"`{f'{names} {value}'.strip()}`", " ".join(text.split())
