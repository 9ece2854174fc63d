"""The tables of both papers, with the published metrics beside those of finished runs."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerastag.fetch import FILES, get_cache_folder
from kerastag.files import format_csv, write_text
from kerastag.markdown import format_table
from kerastag.metrics.classification import compute_d_prime
from kerastag.recipes._papers import PAPERS, Paper, Table, TableRow, read_paper
from kerastag.recipes._results import PUBLISHED_SIZE, Result, read_results

__all__ = ["correlate", "read_label_quality", "write_tables"]

_DASH = "–"
_PAPER_COLUMNS = ["paper mAP", "paper AUC", "paper d′"]
_COLUMNS = ["mAP", "AUC", "d′", "last checkpoint mAP", "trained on", "runs", "with"]
Lines = list[list[str]]


def write_tables(runs: Sequence[str | Path], output: str | Path, label_quality: str | Path | None = None) -> str:
    """Write the tables and figures of finished runs into a folder: `tables.md`, `table_I.csv`, … `figure_4.png`, ….

    The tables of a paper are written if a run is of one of its systems.

    Args:
        runs: Folders of finished runs.
        output: Folder of the tables; files of an earlier call are replaced.
        label_quality: AudioSet's `qa_true_counts.csv`, for table III and figure 7; by default, the file that
            `kerastag fetch audioset_label_quality` has downloaded, if there is one and it rates the classes of the
            runs.

    Returns:
        The tables as Markdown. Runs that differ only in their seed are averaged, with the standard deviation after ±,
        and their d-prime is that of their mean AUC; a row without a run has dashes.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A run or the label quality file is damaged.
    """
    from kerastag.recipes._figures import draw_figures

    results = read_results(runs)
    quality = _read_quality(label_quality, results[0])
    output, sections = Path(output), []
    for paper in map(read_paper, PAPERS):
        recipes = {row.recipe for row in paper.rows.values()}
        if not any(result.system in recipes for result in results):
            continue
        sections.append(f"# {paper.title}\n")
        tables = [(table.name, table.title, _metrics_lines(table, results)) for table in paper.tables]
        if paper.correlations:
            lines = _correlation_lines(paper, results, quality)
            tables.insert(2, ("Table III", "Pearson correlation with class-wise AP", lines))
        for name, title, lines in tables:
            sections.append(f"## {name}. {title}\n\n{format_table(lines[0], lines[1:])}\n")
            cells = [["" if cell == _DASH else cell for cell in row] for row in lines]
            write_text(output / f"{name[0].lower()}{name[1:].replace(' ', '_')}.csv", format_csv(cells))
    text = "\n".join(sections)
    write_text(output / "tables.md", text)
    draw_figures(results, output, quality)
    return text


def correlate(average_precision: NDArray[np.float64], other: NDArray[Any]) -> tuple[float, float] | None:
    """Compute the Pearson correlation of class-wise AP and another value of each class, and its p-value.

    Classes where either is NaN are skipped; None with fewer than three classes left, or where either is constant.

    >>> r, p = correlate(np.array([0.1, 0.2, 0.4, np.nan]), np.array([10, 20, 40, 5.0]))
    >>> round(r, 6)
    1.0

    Reference: Kong et al., 2019, table III.
    """
    from scipy.stats import pearsonr

    other = np.asarray(other, np.float64)
    is_valid = np.isfinite(average_precision) & np.isfinite(other)
    a, b = average_precision[is_valid], other[is_valid]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    result = pearsonr(a, b)
    return float(result.statistic), float(result.pvalue)


def read_label_quality(path: str | Path, result: Result) -> NDArray[np.float64]:
    """Read the fraction of correct labels of each class of a result from AudioSet's label quality file.

    The columns `label_id,num_rated,num_true` are required. A class that is not listed or was never rated gets NaN.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, a count is not a number or out of range, or none of the classes is listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such label quality file")
    fractions: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        columns = rows.fieldnames or ()
        for name in ("label_id", "num_rated", "num_true"):
            if name not in columns:
                raise ValueError(f"{path}: column `{name}` is missing; received: {', '.join(columns)}")
        for row in rows:
            try:
                num_rated, num_true = float(row["num_rated"]), float(row["num_true"])
            except (TypeError, ValueError):
                num_rated, num_true = 0.0, -1.0
            if not 0 <= num_true <= num_rated:
                raise ValueError(
                    f"{path}, line {rows.line_num}: counts must have 0 <= num_true <= num_rated; "
                    f"received: {row['num_true']} and {row['num_rated']}"
                )
            fractions[row["label_id"]] = num_true / num_rated if num_rated else np.nan
    quality = np.array([fractions.get(mid, np.nan) for mid in result.runs[0].metrics["labels"]["mids"]])
    if np.isnan(quality).all():
        raise ValueError(f"{path}: rates none of the {len(quality)} classes of {result.runs[0].path}")
    return quality


def _read_quality(path: str | Path | None, result: Result) -> NDArray[np.float64] | None:
    """Read a label quality file, or the downloaded one if it exists and rates a class of the result."""
    if path:
        return read_label_quality(path, result)
    try:
        return read_label_quality(get_cache_folder() / FILES["audioset_label_quality"].file_name, result)
    except (FileNotFoundError, ValueError):
        return None


def _metrics_lines(table: Table, results: Sequence[Result]) -> Lines:
    lines = [[table.column, *_PAPER_COLUMNS, *_COLUMNS]]
    for entry in table.rows:
        published = [_DASH if np.isnan(v) else f"{v:.3f}" for v in entry.published or [np.nan] * 3]
        matches = [_format_result(*match, entry.part) for match in _find_matches(table, entry, results, table.any_size)]
        lines += [[entry.label, *published, *cells] for cells in matches or [[*[_DASH] * 6, ""]]]
    return lines


def _find_matches(table: Table, entry: TableRow, results: Sequence[Result], any_size: bool) -> list[tuple[Result, str]]:
    """Find the results of a row, each with the values in which it differs from the row or from the other results."""
    config = {name: value for name, value in entry.row.config.items() if name != "train_packs"}
    size = {**PUBLISHED_SIZE, "depth": 1} if entry.row.recipe == "google_baseline" else PUBLISHED_SIZE
    requirements = {"system": entry.row.recipe, **size, **table.match, **config, **entry.match}

    def differences(result: Result) -> list[str]:  # A field that its system does not have is not required.
        identity = result.identity
        return [name for name, value in requirements.items() if name in identity and identity[name] != value]

    matches = [result for result in results if not differences(result)]
    if not matches and any_size:
        matches = [result for result in results if set(differences(result)) <= set(PUBLISHED_SIZE)]
    other_columns = {"system", "data", "training_clips", "balanced_batches", "evaluated"}
    names = dict.fromkeys(name for match in matches for name in match.identity if name not in other_columns)
    varying = [name for name in names if any(m.identity.get(name) != matches[0].identity.get(name) for m in matches)]
    return [
        (m, ", ".join(f"{name} {m.identity.get(name)}" for name in dict.fromkeys([*differences(m), *varying])))
        for m in matches
    ]


def _correlation_lines(paper: Paper, results: Sequence[Result], quality: NDArray[np.float64] | None) -> Lines:
    lines = [["AP against", "paper PCC", "paper p-value", "PCC", "p-value", "system", "trained on", "with"]]
    # Section VI-D of the paper uses ES average; feature-level attention is its main result.
    table = next(table for table in paper.tables if table.name == "Table IV")
    entries = (table.rows[0], table.rows[-1])
    matches = [match for entry in entries for match in _find_matches(table, entry, results, True)]
    for name, (paper_r, paper_p) in paper.correlations.items():
        for result, difference in matches or [(results[0], "")]:
            other = result.training_counts() if name == "Training examples" else quality
            cells = _format_correlation(result, other)
            published = [f"{paper_r:.3f}", f"{paper_p:.3g}"]
            lines.append([name, *published, *cells, result.system, _format_data(result), difference])
    return lines


def _format_correlation(result: Result, other: NDArray[Any] | None) -> list[str]:
    if other is None:
        return ["not given: kerastag fetch audioset_label_quality", _DASH]
    correlation = correlate(result.average_precision(), other)
    return [f"{correlation[0]:.3f}", f"{correlation[1]:.3g}"] if correlation else [_DASH, _DASH]


def _format_result(result: Result, difference: str, part: str) -> list[str]:
    auc = result.values("mauc", part)
    return [
        _format_spread(result.values("map", part), 4),
        _format_spread(auc, 4),
        _format_spread(result.values("d_prime", part), 3, mean=compute_d_prime(auc.mean()) if len(auc) else None),
        _format_spread(result.values("map", part="last"), 4) if part == "ensemble" else _DASH,
        _format_data(result),
        str(len(result.runs)),
        difference,
    ]


def _format_data(result: Result) -> str:
    evaluated = result.identity["evaluated"]
    suffix = "" if evaluated == "eval" else f", evaluated on {evaluated}"
    return f"{result.identity['data']}, {result.identity['training_clips']:,} clips{suffix}"


def _format_spread(values: NDArray[np.float64], digits: int, mean: float | None = None) -> str:
    if not len(values):
        return _DASH
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean() if mean is None else mean:z.{digits}f}{spread}"
