"""Finished runs -> tables I to VII and figures 4, 6, 7, 8 and 9 of paper 1, the paper's numbers beside ours.

    python -m kerastag.recipes.tables RUN... --output DIR [--label_quality qa_true_counts.csv]

Prints Markdown, writes `tables.md`, `table_I.csv` … `table_VII.csv` and `figure_4.png` … into DIR. Runs that differ
only in their seed are averaged, with the standard deviation behind ±. A row without a run shows dashes.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr

from kerastag.recipes._published import SIZE, TABLE_III, TABLES, Figures, Row, Table
from kerastag.recipes._results import Result, read_results

__all__ = ["correlation", "main", "make_tables", "read_label_quality"]

_DASH = "–"
_PAPER = ["paper mAP", "paper AUC", "paper d′"]
_OURS = ["mAP", "AUC", "d′", "last checkpoint mAP", "trained on", "runs", "with"]
Lines = list[list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module: returns 0, or 1 after one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m kerastag.recipes.tables", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for tables and figures")
    parser.add_argument("--label_quality", metavar="CSV", help="AudioSet's qa_true_counts.csv")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    options = parser.parse_args(arguments)
    try:
        results = read_results(options.runs)
        quality = read_label_quality(options.label_quality, results[0]) if options.label_quality else None
        print(make_tables(results, options.output, quality))
    except (OSError, ValueError) as error:
        if options.debug:
            raise
        print(error, file=sys.stderr)
        return 1
    return 0


def make_tables(results: Sequence[Result], output: str | Path, quality: NDArray[np.float64] | None = None) -> str:
    """Turns results into tables and figures in a folder, and the tables as Markdown.

    Args:
        results: from `read_results`, at least one.
        output: made where it is missing; files of an earlier call are replaced.
        quality: (classes,) share of correct labels, NaN for a class that nobody rated; None: not given.
    """
    from kerastag.recipes._figures import draw_figures

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    parts = {table.number: (table.title, _figures_table(table, results)) for table in TABLES}
    parts["III"] = ("Pearson correlation with class-wise AP", _correlation_table(results, quality))
    markdown = []
    for number in ("I", "II", "III", "IV", "V", "VI", "VII"):
        title, lines = parts[number]
        markdown.append(f"## Table {number}. {title}\n\n{_markdown(lines)}")
        _write(output / f"table_{number}.csv", _csv(lines))
    text = "\n".join(markdown)
    _write(output / "tables.md", text)
    draw_figures(results, output, quality)
    return text


def correlation(average_precision: NDArray[np.float64], other: NDArray[Any]) -> tuple[float, float] | None:
    """Turns class-wise AP and another figure of each class into their Pearson correlation and its p-value.

    Classes where either is NaN are left out; None with fewer than three classes left, or where either is constant.

    >>> r, p = correlation(np.array([0.1, 0.2, 0.4, np.nan]), np.array([10, 20, 40, 5.0]))
    >>> round(r, 6)
    1.0

    Reference: Kong et al., 2019, table III.
    """
    other = np.asarray(other, np.float64)
    both = np.isfinite(average_precision) & np.isfinite(other)
    a, b = average_precision[both], other[both]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    found = pearsonr(a, b)
    return float(found.statistic), float(found.pvalue)


def read_label_quality(path: str | Path, result: Result) -> NDArray[np.float64]:
    """Turns AudioSet's quality CSV (`label_id,num_rated,num_true`) into the share of correct labels of each class.

    Args:
        path: the CSV; further columns and classes are allowed.
        result: whose classes, found by their MID.

    Returns:
        (classes,) in [0, 1], NaN for a class that is not listed or was never rated.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, a count is no number or out of range, or none of the classes is listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such label quality file")
    shares: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        missing = [name for name in ("label_id", "num_rated", "num_true") if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: column `{missing[0]}` is missing, received {', '.join(rows.fieldnames or ())}")
        for row in rows:
            try:
                rated, true = float(row["num_rated"]), float(row["num_true"])
            except (TypeError, ValueError):
                rated, true = 0.0, -1.0
            if not 0 <= true <= rated:
                raise ValueError(
                    f"{path}, line {rows.line_num}: counts must have 0 <= num_true <= num_rated, "
                    f"received {row['num_true']} and {row['num_rated']}"
                )
            shares[row["label_id"]] = true / rated if rated else np.nan
    quality = np.array([shares.get(mid, np.nan) for mid in result.runs[0].metrics["labels"]["mids"]])
    if np.isnan(quality).all():
        raise ValueError(f"{path}: rates none of the {len(quality)} classes of {result.runs[0].path}")
    return quality


def _figures_table(table: Table, results: Sequence[Result]) -> Lines:
    lines = [[table.first_column, *_PAPER, *_OURS]]
    for row in table.rows:
        paper = _figures(row.figures) if row.figures else [_DASH] * 3
        ours = [_our_figures(*found) for found in _matching(row, results, table.any_size)]
        lines += [[row.name, *paper, *line] for line in ours or [[*[_DASH] * 6, ""]]]
    return lines


def _our_figures(result: Result, difference: str) -> list[str]:
    return [
        _spread(result.figures("map"), 4),
        _spread(result.figures("mauc"), 4),
        _spread(result.figures("d_prime"), 3),
        _spread(result.figures("map", of="last"), 4),
        _trained_on(result),
        str(len(result.runs)),
        difference,
    ]


def _matching(row: Row, results: Sequence[Result], any_size: bool) -> list[tuple[Result, str]]:
    """The results that belong in a row, each with the settings in which it differs from the row or from the others."""
    found = [result for result in results if row.holds(result.what)]
    if not found and any_size:
        found = [result for result in results if set(row.besides(result.what)) <= set(SIZE) and "system" in result.what]
    shown_elsewhere = {"system", "data", "training_clips", "balanced_batches", "evaluated"}
    keys = dict.fromkeys(key for result in found for key in result.what if key not in shown_elsewhere)
    differing = [key for key in keys if any(result.what.get(key) != found[0].what.get(key) for result in found)]
    told = [[*row.besides(result.what), *differing] for result in found]
    return [
        (result, ", ".join(f"{key} {result.what.get(key)}" for key in dict.fromkeys(keys)))
        for result, keys in zip(found, told, strict=True)
    ]


def _trained_on(result: Result) -> str:
    measured = "" if result.what["evaluated"] == "eval" else f", measured on {result.what['evaluated']}"
    return f"{result.what['data']}, {result.what['training_clips']:,} clips{measured}"


def _correlation_table(results: Sequence[Result], quality: NDArray[np.float64] | None) -> Lines:
    lines = [["AP against", "paper PCC", "paper p-value", "PCC", "p-value", "system", "trained on", "with"]]
    # The paper's section VI-D takes ES average; feature-level attention is its main result.
    rows = [row for table in TABLES if table.number == "IV" for row in (table.rows[0], table.rows[-1])]
    chosen = [found for row in rows for found in _matching(row, results, any_size=True)] or [(results[0], "")]
    for name, (paper_r, paper_p) in TABLE_III.items():
        for result, difference in chosen:
            other = result.training_counts() if name == "Training examples" else quality
            paper = [f"{paper_r:.3f}", f"{paper_p:.3g}"]
            ours = _correlation_cells(result, other)
            lines.append([name, *paper, *ours, result.system, _trained_on(result), difference])
    return lines


def _correlation_cells(result: Result, other: NDArray[Any] | None) -> list[str]:
    if other is None:
        return ["not given", _DASH]
    found = correlation(result.average_precision(), other)
    return [f"{found[0]:.3f}", f"{found[1]:.3g}"] if found else [_DASH, _DASH]


def _figures(figures: Figures) -> list[str]:
    return [f"{figures.map:.3f}", f"{figures.mauc:.3f}", f"{figures.d_prime:.3f}"]


def _spread(values: NDArray[np.float64], digits: int) -> str:
    if not len(values):
        return _DASH
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    mean = round(float(values.mean()), digits) + 0.0  # never "-0.000"
    return f"{mean:.{digits}f}{spread}"


def _markdown(lines: Lines) -> str:
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([rows[0], "|" + " --- |" * len(lines[0]), *rows[1:]]) + "\n"


def _csv(lines: Lines) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["" if cell == _DASH else cell for cell in row] for row in lines])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
