"""Build the site of the documentation: `python -m docs.build_site` writes site/, and fails at the first warning."""

import argparse
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

from docs._pages import ROOT, stage_pages
from docs._reference import write_reference

__all__ = ["build_site", "find_foreign_resources", "list_external_links"]

_PAGES = ROOT / "build/docs"
_RESOURCES = {
    "audio": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
    "video": "src",
}
_IN_STYLES = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([a-z]*:?//[^"')\s]+)""", re.IGNORECASE)


class _Addresses(HTMLParser):
    """The addresses in a page: of what it loads, and of its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.resources: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag in _RESOURCES and (tag != "link" or values.get("rel") not in ("canonical", "next", "prev")):
            self.resources.append(values.get(_RESOURCES[tag]) or "")


def build_site() -> str:
    """Build the site into the folder `site`, and return what Zensical printed.

    Raises:
        RuntimeError: A page has a warning, such as a link that leads nowhere, or loads a file from another host.
    """
    shutil.rmtree(_PAGES, ignore_errors=True)
    stage_pages(_PAGES)
    write_reference(_PAGES)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    printed = result.stdout + result.stderr
    if result.returncode or "warning" in printed.lower():
        raise RuntimeError(f"the site has warnings:\n{printed}")
    if foreign := find_foreign_resources(ROOT / "site"):
        raise RuntimeError("pages must load nothing from another host; received: " + "; ".join(foreign))
    return printed


def find_foreign_resources(site: Path) -> list[str]:
    """Find what the pages and style sheets of a site load from other hosts, each as `page: address`."""
    foreign = []
    for path in sorted(site.rglob("*")):
        if path.suffix not in (".html", ".css"):
            continue
        text = path.read_text(encoding="utf-8")
        resources = _IN_STYLES.findall(text) + (_Addresses(text).resources if path.suffix == ".html" else [])
        foreign += [f"{path.relative_to(site)}: {address}" for address in resources if urlsplit(address).netloc]
    return foreign


def list_external_links(site: Path) -> list[str]:
    """List the links of a site that lead to other hosts. They are not followed."""
    links = {link for path in site.rglob("*.html") for link in _Addresses(path.read_text(encoding="utf-8")).links}
    return sorted(link for link in links if urlsplit(link).netloc)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        build_site()
    except RuntimeError as error:
        sys.exit(str(error))
    links = list_external_links(ROOT / "site")
    print(f"site/index.html; {len(links)} links lead to other hosts:", *links, sep="\n")
