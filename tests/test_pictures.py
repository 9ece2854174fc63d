"""Tests of the pictures of the documentation: small, used, described, and made by the script."""

import re
from xml.etree import ElementTree

import pytest

from checks import ROOT
from docs import make_pictures

PICTURES = sorted(make_pictures.FOLDER.iterdir())
DOCUMENTS = [ROOT / "README.md", ROOT / "RESULTS.md", *(ROOT / "docs").rglob("*.md")]


def test_the_pictures_are_small():
    assert all(path.stat().st_size < 150_000 for path in PICTURES)
    assert sum(path.stat().st_size for path in PICTURES) < 1_000_000


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_made_by_the_script_and_described_where_it_is_used(path):
    assert f'"{path.name}"' in (ROOT / "docs/make_pictures.py").read_text(encoding="utf-8").replace("FOLDER / ", "")
    pattern = re.compile(rf"!?\[([^\]]*)\]\([^)]*pictures/{path.name}\)")
    texts = [text for document in DOCUMENTS for text in pattern.findall(document.read_text(encoding="utf-8"))]
    assert texts
    assert all(len(text.split()) > 5 for text in texts), texts


def test_every_picture_of_a_document_exists_and_is_described():
    for document in DOCUMENTS:
        for text, target in re.findall(r"!\[([^\]]*)\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).is_file(), f"{document}: {target}"
            assert len(text.split()) > 5, f"{document}: {target}"


def test_the_frames_of_a_terminal_are_shown_one_after_the_other():
    root = ElementTree.fromstring(make_pictures._draw_frames([["$ kerastag", "● a < b"], ["$ kerastag", "○ c"]], 2.0))
    groups = root.findall("{*}g")
    assert [group.get("style") for group in groups] == ["animation-delay:0s", "animation-delay:2s"]
    assert [text.text for group in groups for text in group] == ["$ kerastag", "● a < b", "$ kerastag", "○ c"]
