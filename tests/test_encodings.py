"""Text is read and written in UTF-8, whatever the locale."""

import ast
import re

import pytest

from checks import ROOT

FOLDERS = ("kerastag", "tests", "benchmarks", "examples", "export", "docs")
PATHS = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TEXT_MODE = re.compile(r"[rwax]\+?t?")


def lacks_encoding(call):
    """Whether a call opens a file or a pipe as text in the encoding of the locale."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in keywords or None in keywords:
        return False
    if getattr(keywords.get("text"), "value", False) or "universal_newlines" in keywords:
        return True
    is_method = isinstance(call.func, ast.Attribute)
    if name == "open":
        modes = [keywords["mode"]] if "mode" in keywords else call.args[0 if is_method else 1 :][:1]
        if not modes:  # The first argument of another `open` method is the name of a member or of a folder.
            return not (is_method and call.args)
        return isinstance(modes[0], ast.Constant) and bool(TEXT_MODE.fullmatch(str(modes[0].value)))
    return is_method and (name, len(call.args)) in (("read_text", 0), ("write_text", 1))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("open(path, 'wb')", False),
        ("open(path, encoding='utf-8')", False),
        ("path.open()", True),
        ("path.open('a')", True),
        ("path.open('rb')", False),
        ("archive.open('config.json')", False),
        ("RunFolder.open(path)", False),
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("folder.read_text('table.md')", False),
        ("path.write_text('a')", True),
        ("write_text(path, 'a')", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command)", False),
    ],
)
def test_calls_without_an_encoding_are_detected(code, expected):
    assert lacks_encoding(ast.parse(code).body[0].value) is expected


def test_every_text_file_and_pipe_has_an_explicit_encoding():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:80]}"
        for path in PATHS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and lacks_encoding(node)
    ]
    assert not wrong, "give `encoding` in\n" + "\n".join(wrong)
