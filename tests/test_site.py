"""Tests of the pages of the site and of its diagrams. `make docs`, a step of CI, builds it and checks its links."""

import functools
import http.server
import re
import threading
import tomllib
from importlib import import_module

import pytest
from serving.browsers import open_browser, open_page
from test_documentation import known_options

from checks import ROOT
from docs import _pages, _reference, build_site, make_diagrams
from kerastag.cli import VERBS


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Folder of the pages that are made from the parsers and the packages."""
    folder = tmp_path_factory.mktemp("reference")
    _reference.write_reference(folder)
    return folder


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a function that writes and reads the only page of a repository."""
    monkeypatch.setattr(_pages, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "RESULTS.md").write_text(
        "| table | mAP |\n| --- | --- |\n| I, II | 0.3 |\n| II | 0.4 |\n\n"
        "| task | [x](docs/page.md) |\n| --- | --- |\n",
        encoding="utf-8",
    )

    def read(text):
        (tmp_path / "docs/page.md").write_text(text, encoding="utf-8")
        return _pages.read_page("docs/page.md")

    return read


def list_navigation(entries):
    """List the pages in a navigation, from the top."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from list_navigation(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_once():
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    pages = sorted(list_navigation(config["project"]["nav"]))
    assert pages == sorted([*_pages.list_pages().values(), *_reference.GENERATED])


def test_links_lead_to_pages_and_else_to_the_repository(repository):
    text = repository(
        "[a](../RESULTS.md#how) [b](page.md) [c](#top) [d](https://example.com) `[e](none.md)` [f](../docs)"
    )
    links = _pages.find_links(text)
    assert links == [
        *("results.md#how", "page.md", "#top", "https://example.com", f"{_pages.REPOSITORY}/tree/main/docs"),
    ]
    with pytest.raises(
        ValueError, match=r"docs/page.md: a link must lead to a file of the repository; received: 'no.md'"
    ):
        repository("[a](no.md)")
    with pytest.raises(ValueError, match="received: 'pictures/no.png'"):
        repository("![a](pictures/no.png)")


def test_a_link_to_a_package_leads_to_the_page_of_its_interface():
    links = _pages.find_links(_pages.read_page("docs/index.md"))
    assert {"command_line.md", "api/index.md"} <= set(links)
    assert "api/layers.md" in _pages.find_links(_pages.read_page("docs/concepts.md"))


@pytest.mark.parametrize("source", ["README.md", *_pages.list_pages()])
def test_the_links_of_a_document_lead_to_files_of_the_repository(source):
    document = ROOT / source
    for target in _pages.find_links(document.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (document.parent / target.partition("#")[0]).exists(), target


def test_a_page_includes_tables_of_other_documents(repository):
    included = repository("<!-- rows of RESULTS.md: II -->\n\n<!-- table of RESULTS.md: task -->\n")
    assert included == "| mAP |\n| --- |\n| 0.3 |\n| 0.4 |\n\n| task | [x](page.md) |\n| --- | --- |\n"
    with pytest.raises(ValueError, match="RESULTS.md: `III` must be the title or the name of a table"):
        repository("<!-- rows of RESULTS.md: III -->\n")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train"])
def test_the_page_of_the_command_line_has_every_option(verb, reference):
    text = (reference / "command_line.md").read_text(encoding="utf-8")
    (section,) = re.findall(
        rf"^## kerastag {verb.replace('archive-', 'archive ')}\n(.*?)(?=^## |\Z)", text, re.M | re.S
    )
    options = known_options(verb, []) - {"--debug", "--help", "-h"}
    assert {option for option in options if f"`{option}" not in section} == set()


@pytest.mark.parametrize("package", _reference.PACKAGES)
def test_the_page_of_a_package_has_every_public_name_where_it_is_defined(package, reference):
    text = (reference / f"api/{package}.md").read_text(encoding="utf-8")
    module = import_module(f"kerastag.{package}")
    documented = re.findall(r"^::: (\S+)\.(\w+)$", text, re.MULTILINE)
    assert sorted(name for _, name in documented) == sorted(module.__all__)
    for path, name in documented:
        file = ROOT / f"{path.replace('.', '/')}.py"
        source = (file if file.exists() else file.with_suffix("") / "__init__.py").read_text(encoding="utf-8")
        assert re.search(rf"^(?:class |def |[\w, ]*\b){name}\b", source, re.MULTILINE), f"{path} does not define {name}"


def test_examples_and_shapes_in_docstrings_are_blocks_of_the_page():
    text = "Sum.\n\nInput shape: `(a,)`\nOutput shape: `(b,)`\n\n>>> x\n[1, 2]\n\nEnd."
    assert _reference.lay_out_docstring(text) == (
        "Sum.\n\n\n**Input shape:** `(a,)`\n\n**Output shape:** `(b,)`\n\n```pycon\n>>> x\n[1, 2]\n```\n\nEnd."
    )


@pytest.mark.parametrize("name", make_diagrams.DIAGRAMS)
def test_a_diagram_is_what_the_script_draws(name):
    path = make_diagrams.FOLDER / f"{name}.svg"
    assert path.read_text(encoding="utf-8") == str(make_diagrams.DIAGRAMS[name]()), "run: python -m docs.make_diagrams"


def test_messages_in_the_questions_and_answers_are_printed_somewhere():
    headings = re.findall(r"^### (`.*)$", (ROOT / "docs/faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "kerastag").rglob("*.py")))
    parts = [
        part.strip(" ();")
        for heading in headings
        for code in re.findall("`(.*?)`", heading)
        for part in re.split("…|[0-9.]+ s", code)
    ]
    unknown = [part for part in parts if part and not re.search(r"\s+".join(map(re.escape, part.split())), source)]
    assert len(parts) > 10
    assert not unknown


def test_what_a_page_loads_from_another_host_is_noticed(tmp_path):
    (tmp_path / "a.html").write_text(
        '<link rel="canonical" href="https://a.org"><a href="https://b.org">b</a><script src="//c.org/c.js"></script>'
        '<img src="d.png"><style>@import "https://e.org/e.css";</style>',
        encoding="utf-8",
    )
    (tmp_path / "b.css").write_text(
        "a { background: url(https://f.org/f.png) } b { background: url(g.png) }", encoding="utf-8"
    )
    assert build_site.find_foreign_resources(tmp_path) == [
        *("a.html: https://e.org/e.css", "a.html: //c.org/c.js", "b.css: https://f.org/f.png"),
    ]
    assert build_site.list_external_links(tmp_path) == ["https://b.org"]


@pytest.mark.slow
def test_a_browser_reads_and_searches_the_site(tmp_path):
    """Nothing is loaded from another host: `open_page` checks this, and the console."""
    if not (ROOT / "site/index.html").is_file():
        pytest.skip("needs the site: make docs")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=ROOT / "site")
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        open_browser(tmp_path / "no_microphone.wav") as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        allowed = (url, f"blob:{url}")
        with open_page(browser, f"{url}index.html", allowed=allowed, color_scheme="dark") as page:
            assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
            page.locator("article").get_by_role("link", name="Tag recordings").click()
            page.wait_for_url("**/tag.html")
            page.get_by_role("button", name="Search").click()
            page.keyboard.type("false alarms")
            page.get_by_role("option", name="False alarms").first.click()
            page.wait_for_url("**#false-alarms*")
        server.shutdown()
