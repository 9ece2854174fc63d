"""The pages of the site: documents of the repository with links to pages, and tables that they include."""

import posixpath
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from docs._reference import GENERATED
from kerastag.files import write_text
from kerastag.markdown import format_table

__all__ = ["REPOSITORY", "ROOT", "find_links", "list_pages", "read_page", "stage_pages"]

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/kerastag/kerastag"
DOCUMENTS = {
    "BENCHMARKS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "RESULTS.md": "results.md",
    "SECURITY.md": "security.md",
    "export/raspberry_pi/README.md": "raspberry_pi.md",
    "kerastag/bundled/README.md": "esc10.md",
}
# Pages that are no document, by what a document links to in the repository instead.
PAGES_BY_SOURCE = {
    "README.md": "index.md",
    "kerastag": "api/index.md",
    "kerastag/cli": "command_line.md",
    **{f"kerastag/{posixpath.basename(page)[:-3]}": page for page in GENERATED if page.startswith("api/")},
}
IMAGES = (".gif", ".jpg", ".png", ".svg", ".webp")

_CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
_INCLUDE = re.compile(r"^<!-- (rows|table) of (\S+): (.+) -->$", re.MULTILINE)


def list_pages() -> dict[str, str]:
    """List the documents that become pages: the path in the site by the path in the repository."""
    paths = (path.relative_to(ROOT / "docs").as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))
    return {f"docs/{path}": path for path in paths} | DOCUMENTS


def find_links(text: str) -> list[str]:
    """Find the targets of the links and images of a document, outside of code."""
    return [target for part in _CODE.split(text)[::2] for target in _TARGET.findall(part)]


def read_page(source: str) -> str:
    """Read a document as a page of the site.

    A link to another document leads to its page, one to a package to the page of its interface, and one to any other
    file to the repository. A line
    `<!-- rows of RESULTS.md: IV -->` becomes the rows whose first cell has `IV`, in the tables with the first title
    `table`; `<!-- table of RESULTS.md: TITLE -->` becomes the tables whose first title is TITLE.

    Args:
        source: Path of the document in the repository.

    Raises:
        ValueError: A link leads nowhere, or a table to include does not exist.
    """
    pages = list_pages()
    page = pages[source]
    text = _rewrite_links((ROOT / source).read_text(encoding="utf-8"), source, page, pages)
    return _INCLUDE.sub(
        lambda match: _rewrite_links(_find_tables(match[2], match[3], match[1] == "rows"), match[2], page, pages), text
    )


def stage_pages(folder: Path) -> None:
    """Write the documents as pages into a folder, with the images."""
    for source, page in list_pages().items():
        write_text(folder / page, read_page(source))
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in IMAGES or path.suffix == ".css":
            copy = folder / path.relative_to(ROOT / "docs")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _rewrite_links(text: str, source: str, page: str, pages: dict[str, str]) -> str:
    """Make the links of a text in the document `source` those of the page `page`."""

    def rewrite(match: re.Match[str]) -> str:
        if re.match(r"[a-z]+:|#", match[0]):
            return match[0]
        target, hash_sign, anchor = match[0].partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = pages.get(path) or pages.get(f"{path}/README.md") or PAGES_BY_SOURCE.get(path)
        if place is None:
            if not (ROOT / path).exists():
                raise ValueError(f"{source}: a link must lead to a file of the repository; received: {match[0]!r}")
            if not (path.startswith("docs/") and path.endswith(IMAGES)):
                kind = "tree" if (ROOT / path).is_dir() else "blob"
                return f"{REPOSITORY}/{kind}/main/{path}{hash_sign}{anchor}"
            place = path.removeprefix("docs/")
        return posixpath.relpath(str(place), posixpath.dirname(page) or ".") + hash_sign + anchor

    parts = _CODE.split(text)
    parts[::2] = [_TARGET.sub(rewrite, part) for part in parts[::2]]
    return "".join(parts)


def _find_tables(source: str, title: str, rows_only: bool) -> str:
    """Find the tables, or rows of tables, that a page includes from a document."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", (ROOT / source).read_text(encoding="utf-8") + "\n", re.MULTILINE):
        header, _, *rows = (
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()
        )
        if rows_only and header[0] == "table":
            selected = [cells[1:] for cells in rows if title in cells[0].split(", ")]
            tables += [_format_rows(header[1:], selected)] if selected else []
        elif not rows_only and header[0] == title:
            tables.append(_format_rows(header, rows))
    if not tables:
        raise ValueError(f"{source}: `{title}` must be the title or the name of a table; no table has it")
    return "\n\n".join(tables)


def _format_rows(header: list[str], rows: Iterable[list[str]]) -> str:
    return format_table(header, [[cell.replace("\\|", "|") for cell in cells] for cells in rows])
