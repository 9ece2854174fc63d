"""The tables of both papers: every row with its run and its published metrics, read from `recipes/paper*.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kerastag._configs import find_config
from kerastag.markdown import format_table

__all__ = [
    "PAPERS",
    "Paper",
    "PublishedMetrics",
    "Row",
    "Table",
    "TableRow",
    "find_row",
    "format_rows",
    "read_paper",
    "recipe_names",
]

PAPERS = ("paper1", "paper2")


class PublishedMetrics(NamedTuple):
    """Metrics as printed in a paper; d-prime is NaN where it is not given."""

    map: float
    mauc: float
    d_prime: float = float("nan")


@dataclass(frozen=True)
class Row:
    """One run behind a table.

    Attributes:
        name: Name for `kerastag train --row`.
        recipe: Name of the recipe.
        config: Values of configuration fields that differ from the defaults of the recipe.
        overlays: Further values that apply after an overlay, by the name of the overlay.
        published: Metrics in the paper; None where it has none.
        seeds: Seeds of the runs on the balanced clips that RESULTS.md reports.
        source: The TOML file.
    """

    name: str
    recipe: str
    config: Mapping[str, Any]
    overlays: Mapping[str, Mapping[str, Any]]
    published: PublishedMetrics | None
    seeds: tuple[int, ...]
    source: Path


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        label: Label of the row.
        row: Run of the row.
        match: What else a run must have to belong to the row.
        part: Key of the metrics of a run: `ensemble`, or the `global` or `local` stream alone.
        published: Metrics in the paper; None where it has none.
    """

    label: str
    row: Row
    match: Mapping[str, Any] = field(default_factory=dict)
    part: str = "ensemble"
    published: PublishedMetrics | None = None


@dataclass(frozen=True)
class Table:
    """A table of a paper, or the points of a figure.

    Attributes:
        name: `Table I` or `Figure 2a`.
        title: Title.
        column: Title of the first column.
        rows: Rows.
        match: What a run must have to belong to any row that does not require something else.
        any_size: Whether a row without a run of the published size shows runs of other sizes, as small runs on few
            classes have. A table that compares sizes does not.
    """

    name: str
    title: str
    column: str
    rows: tuple[TableRow, ...]
    match: Mapping[str, Any]
    any_size: bool


@dataclass(frozen=True)
class Paper:
    """The tables of a paper and the runs behind them.

    Attributes:
        title: Title of the paper.
        rows: Runs by name.
        tables: Tables with metrics.
        correlations: Pearson correlation with class-wise AP and its p-value, by what AP is correlated with.
    """

    title: str
    rows: Mapping[str, Row]
    tables: tuple[Table, ...]
    correlations: Mapping[str, tuple[float, float]]


@cache
def read_paper(name: str) -> Paper:
    """Read the tables of one of `PAPERS`.

    >>> read_paper("paper1").rows["units_2048"].published
    PublishedMetrics(map=0.369, mauc=0.969, d_prime=2.64)
    """
    path = find_config("recipes", name)
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = {key: _read_row(key, values, path) for key, values in content["row"].items()}
    tables = tuple(
        Table(
            f"{kind.capitalize()} {number}",
            table["title"],
            table["column"],
            _link(table["rows"], rows),
            table.get("match", {}),
            table.get("any_size", False),
        )
        for kind in ("table", "figure")
        for number, table in content.get(kind, {}).items()
    )
    correlations = {name: (r, p) for name, (r, p) in content.get("correlation", {}).items()}
    return Paper(content["title"], rows, tables, correlations)


def find_row(name: str, recipe: str | None = None) -> Row:
    """Find a row of either paper by its name; no such row, or one of another recipe than required, is a ValueError."""
    rows = {key: row for paper in PAPERS for key, row in read_paper(paper).rows.items()}
    if name not in rows:
        matches = get_close_matches(name, rows)
        hint = f"; did you mean {' or '.join(matches)}?" if matches else ""
        raise ValueError(f"`--row` must be a row of recipes/paper1.toml or paper2.toml; received: {name!r}{hint}")
    if recipe is not None and rows[name].recipe != recipe:
        raise ValueError(f"`--row` must be a row of {recipe}; received: {name!r}, a row of {rows[name].recipe}")
    return rows[name]


def format_rows() -> str:
    """Format the rows of both papers as a table: the command of each, and where it stands."""
    lines = []
    for number, name in enumerate(PAPERS, start=1):
        paper = read_paper(name)
        for row in paper.rows.values():
            tables = [table for table in paper.tables if row in [entry.row for entry in table.rows]]
            places = [table.name[0].lower() + table.name[1:] for table in tables]
            config = ", ".join(f"{key} {value}" for key, value in row.config.items())
            lines.append((f"kerastag train --row {row.name}", row.recipe, config, f"paper {number}", ", ".join(places)))
    return format_table(("command", "recipe", "differs in", "paper", "where"), lines)


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes, sorted."""
    paths = Path(__file__).parent.glob("[a-z]*.py")
    return tuple(sorted(path.stem for path in paths if path.stem != "custom"))


def _read_row(name: str, values: Mapping[str, Any], source: Path) -> Row:
    overlays = {key: value for key, value in values.items() if isinstance(value, dict) and key != "config"}
    published = values.get("published")
    return Row(
        name,
        values["recipe"],
        values.get("config", {}),
        overlays,
        PublishedMetrics(*published) if published else None,
        tuple(values.get("seeds", (0,))),
        source,
    )


def _link(entries: Mapping[str, Any], rows: Mapping[str, Row]) -> tuple[TableRow, ...]:
    """Look up the rows of a table, each given by its name or by a dict with its name and further requirements."""
    linked = []
    for label, entry in entries.items():
        match = dict(entry) if isinstance(entry, dict) else {"row": entry}
        row, part = rows[match.pop("row")], match.pop("part", "ensemble")
        published = PublishedMetrics(*match.pop("published")) if "published" in match else row.published
        linked.append(TableRow(label, row, match, part, published))
    return tuple(linked)
