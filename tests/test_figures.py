"""Tests of the figures in the documents: each is in the file of the benchmark that a comment beside it names.

A comment on a line of its own, `<!-- figures: NAME -->`, belongs to the table below it: each row must be part of a row
in `benchmarks/figures/NAME.json`, cell by cell under the same titles. With several names, the numbers of the table must
be in one of the files. The same comment at the end of a sentence means that its numbers are in the file.
`<!-- figures: none -->` is for limits and the like, which nobody measures.
"""

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks import _figures
from checks import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "RESULTS.md", ROOT / "BENCHMARKS.md", *(ROOT / "docs").rglob("*.md"))
)
MARK = re.compile(r"<!-- figures: ([\w, ]+) -->")
NUMBER = re.compile(r"[-+±]?(?:\d[\d,]*)?(?:\.\d+|\d)(?:e-?\d+)?")
SENTENCE_END = re.compile(r"[.!?:]\s+(?=[A-Z`*])")


def find_numbers(text):
    """Find the numbers of a text, without those in code and in names such as ESC-10, as they are printed."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", text.replace("−", "-"))
    tokens = (token.strip("()[]{}.,;:%*†\"'") for token in re.split(r"[\s/|×]+", text))
    return {token.replace(",", "").lstrip("+±") for token in tokens if NUMBER.fullmatch(token)}


def split_cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


class MarkedTable:
    """A table of a document, with the names in the comment above it."""

    def __init__(self, document, number, lines, names):
        self.place, self.names = f"{document}, line {number}", names
        self.header, _, *self.rows = map(split_cells, lines)

    @property
    def has_figures(self):
        """Whether several cells begin with a number."""
        return sum(bool(re.match(r"[-−+]?\.?\d", cell)) for row in self.rows for cell in row) > 1


def find_tables(document, text):
    """Find the tables of a document outside of blocks of code."""
    tables, names, lines = [], [], []
    is_code = False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        is_code ^= line.startswith("```")
        if line.startswith("|") and not is_code:
            lines.append(line)
            continue
        if lines:
            tables.append(MarkedTable(document, number - len(lines), lines, names))
            names, lines = [], []
        if mark := MARK.fullmatch(line):
            names = re.split(r",\s*", mark[1])
        elif line.strip():
            names = []
    return tables


def find_sentences(text):
    """Find the sentences that end with a comment, and the name in it."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:- |\d+\. ))", re.sub(r"```.*?```", "", text, flags=re.S)):
        start = 0
        for mark in MARK.finditer(block):
            if sentence := re.sub(r"^[-*]\s+", "", block[start : mark.start()].strip()):
                yield SENTENCE_END.split(sentence)[-1], mark[1]
            start = mark.end()


def read_numbers(name):
    return find_numbers(json.dumps(_figures.read_measurements(_figures.FOLDER / f"{name}.json"), ensure_ascii=False))


def check_table(table):
    """Return the rows that no file has."""
    if len(table.names) > 1:
        numbers = set().union(*map(read_numbers, table.names))
        return [row for row in table.rows if find_numbers(" | ".join(row)) - numbers]
    recorded = [row.items() for row in _figures.read_rows(table.names[0])]
    rows = [(row, dict(zip(table.header, row, strict=True)).items()) for row in table.rows]
    return [row for row, cells in rows if not any(cells <= other for other in recorded)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_figures_of_a_document_are_those_that_a_benchmark_recorded(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert text.count("<!-- figures") == len(MARK.findall(text)), "a comment must be on one line"
    for table in find_tables(document, text):
        if table.names not in ([], ["none"]):
            assert not check_table(table), f"{table.place}: not in benchmarks/figures/{', '.join(table.names)}"
    for sentence, name in find_sentences(text):
        unknown = find_numbers(sentence) - read_numbers(name) if name != "none" else set()
        assert not unknown, f"{document}: {unknown} of {sentence!r} are not in benchmarks/figures/{name}.json"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_table_of_figures_names_its_source(document):
    for table in find_tables(document, (ROOT / document).read_text(encoding="utf-8")):
        assert table.names or not table.has_figures, f"{table.place}: needs <!-- figures: NAME --> above the table"


def test_every_file_of_figures_is_complete_and_used():
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    used = {name for mark in MARK.findall(text) for name in re.split(r",\s*", mark)}
    assert {path.stem for path in _figures.FOLDER.iterdir()} == used - {"none"}
    for path in _figures.FOLDER.iterdir():
        for measurement in _figures.read_measurements(path):
            assert {"command", "machine", "versions", "commit", "rows"} <= measurement.keys(), path.name
            assert measurement["command"], path.name
            assert measurement["machine"], path.name
            assert measurement["rows"], path.name


def test_a_changed_figure_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(_figures, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["speed.py", "--rounds", "3", "--record"])
    _figures.record(
        "speed", ["what", "time", "memory"], [["slow", "5 s", "1,024 MB"], ["fast", "2 s", "96 MB"]], tmp_path
    )
    table = "<!-- figures: speed -->\n\n| what | time |\n| --- | --- |\n| fast | {} |\n"
    checked = [check_table(*find_tables("page.md", table.format(time))) for time in ("2 s", "5 s", "2.0 s")]
    assert checked == [[], [["fast", "5 s"]], [["fast", "2.0 s"]]]
    both = table.format("2 s").replace("figures: speed", "figures: speed, speed")
    assert check_table(*find_tables("page.md", both)) == []
    assert check_table(*find_tables("page.md", both.replace("2 s", "4 s"))) == [["fast", "4 s"]]
    ((sentence, name),) = find_sentences(
        "Other 7 things. In `mn04` and 3 rounds it takes 1,024 MB<!-- figures: speed -->."
    )
    assert find_numbers(sentence) == {"3", "1024"} <= read_numbers(name)


def test_a_benchmark_that_is_run_again_replaces_its_figures(tmp_path, monkeypatch):
    for arguments, value in ((["--record"], 1), (["--fast", "--record"], 2), (["--record"], 3)):
        monkeypatch.setattr(sys, "argv", [f"{tmp_path}/speed.py", *arguments])
        path = _figures.record("speed", ["what", "value"], [["speed", value]], tmp_path)
    first, second = _figures.read_measurements(path)
    assert (first["command"], first["rows"]) == ("python benchmarks/speed.py", [{"what": "speed", "value": "3"}])
    assert (second["command"], second["rows"][0]["value"]) == ("python benchmarks/speed.py --fast", "2")
    assert first["versions"]["numpy"]
    assert first["machine"]
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 1', '"format": 2'), encoding="utf-8")
    with pytest.raises(ValueError, match="`format` must be 1; received: 2"):
        _figures.read_measurements(path)


def test_every_benchmark_that_prints_a_table_can_record_it():
    for path in sorted(Path(ROOT / "benchmarks").glob("[!_]*.py")):
        assert "add_record_flag(parser)" in path.read_text(encoding="utf-8"), path.name
