"""Tests of the language of the code: names, docstrings, comments and messages follow CONTRIBUTING.md."""

import ast
import re
import tokenize

import pytest

from checks import ROOT

FOLDERS = ("kerastag", "tests", "benchmarks", "docs", "examples", "export")
# Words of an idiom that the code once had, and British spellings. CONTRIBUTING.md lists what to write instead.
NAMES = re.compile(
    r"_?(found|heard|told|kept|said|asked|beside|anew|boxed|joined|hear|say|know|forget)|"
    r"_?(hear|say|tell|know|forget|listen)_\w+|\w+_of|\w*(behaviour|colour|normalis|quantis|localis)\w*"
)
PROSE = re.compile(
    r"\b(anew|hears?|heard|says so|goes on where|in the box|made up|by heart|lies beside|one's own)\b|"
    r"\b(?<!there )is no (?!more|less|longer|doubt)|behaviour|colour|\bnormalis|\bquantis|\blocalis",
    re.IGNORECASE,
)


def find_files(folder):
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if path.name != "test_language.py"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_first_line_of_a_docstring_is_a_sentence(folder):
    wrong = []
    for path in find_files(folder):
        text = path.read_text(encoding="utf-8")
        if not re.search(r'"""[^\n]*->', text):  # parsing every file would take seconds
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node) or ""
                if "->" in docstring.split("\n", 1)[0]:
                    wrong.append(f"{path.relative_to(ROOT)}: {docstring.splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_and_prose_are_plain(folder):
    wrong = []
    for path in find_files(folder):
        text = path.read_text(encoding="utf-8")
        if not (PROSE.search(text) or re.search(rf"\b({NAMES.pattern})\b", text)):
            continue
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.NAME and NAMES.fullmatch(token.string):
                    wrong.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}")
                # A string without spaces is a key or a name, which may be one of an older version.
                elif token.type in (tokenize.COMMENT, tokenize.STRING) and " " in token.string:
                    wrong += [
                        f"{path.relative_to(ROOT)}:{token.start[0]}: {m[0]}" for m in PROSE.finditer(token.string)
                    ]
    assert not wrong, "\n".join(wrong)
