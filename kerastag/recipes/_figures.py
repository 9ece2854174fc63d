"""Figures 4, 6, 7, 8 and 9 of paper 1, drawn from finished runs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from kerastag.recipes._results import Result

__all__ = ["draw_figures"]

_TITLES = {
    "es_average": "ES average",
    "decision_attention": "decision-level attention",
    "multi_attention": "decision-level multi attention",
    "feature_attention": "feature-level attention",
}
_FIGURE_8 = (("es_average",), ("decision_attention", "multi_attention"), ("feature_attention",))
_FIGURE_9 = ("feature_attention", "multi_attention", "decision_attention", "es_average")
_MARKS = (("#1f4e9e", "o"), ("#d1495b", "D"), ("#2a9d5c", "^"), ("#8a6fb0", "s"), ("#c98a1b", "v"), ("#555555", "x"))
_BARS = "#b9c6d8"
_RED = "#c1121f"
_SPLITS = {"unbal_train": "unbalanced training", "bal_train": "balanced training", "eval": "evaluation"}
_MOST_NAMES = 110  # class names that fit side by side under a wide figure
_DPI = 110


def draw_figures(results: Sequence[Result], output: Path, quality: NDArray[np.float64] | None = None) -> list[Path]:
    """Turns results into `figure_4.png`, `figure_6.png` … in the folder `output`.

    The paper's model is taken where it was run: feature-level attention for figure 6, ES average for figure 7,
    the three of figure 8; otherwise the best there is.
    """
    figures = {
        4: _labels_a_clip(results[0]),
        6: _clips_a_class(_chosen(results, "feature_attention") or _best(results)),
        7: _training_against_evaluation(_chosen(results, "es_average") or _best(results), quality),
        8: _class_wise(_of_figure_8(results)),
        9: _every_class(_of_figure_9(results)),
    }
    return [_save(figure, output / f"figure_{number}.png") for number, figure in figures.items()]


def _labels_a_clip(result: Result) -> Figure:
    per_clip = result.runs[0].metrics["labels_per_clip"]
    splits = [split for split in per_clip if per_clip[split]]
    figure = Figure(figsize=(1.5 + 4.5 * len(splits), 4), layout="constrained")
    for axes, split in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        counts = {int(labels): clips for labels, clips in per_clip[split].items()}
        places = range(min(counts), max(counts) + 1)
        bars = axes.bar(places, [counts.get(place, 0) for place in places], color=_MARKS[0][0])
        axes.bar_label(bars, [f"{counts[p]:,}" if counts.get(p) else "" for p in places], fontsize=7, padding=2)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=20, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.margins(y=0.1)
        axes.set(
            xlabel="classes in a clip",
            ylabel="clips",
            title=f"{_SPLITS.get(split, split)}, {sum(counts.values()):,} clips",
        )
        _plain(axes)
    return figure


def _clips_a_class(result: Result) -> Figure:
    counts = result.runs[0].metrics["class_counts"]
    splits = list(counts)
    order = np.argsort(-result.training_counts(), kind="stable")
    places = np.arange(len(order))
    figure = Figure(figsize=(_width(len(order)), 3.5 + 2 * len(splits)), layout="constrained")
    *panels, lowest = figure.subplots(len(splits) + 1, 1, sharex=True)
    for axes, split in zip(panels, splits, strict=True):
        in_order = np.asarray(counts[split])[order]
        _count_bars(axes, in_order)
        axes.set(
            ylabel="clips (log)",
            title=f"{_SPLITS.get(split, split)}: {in_order.min():,} to {in_order.max():,} clips a class",
        )
    average_precision = result.average_precision()[order]
    lowest.vlines(places, 0, average_precision, color=_RED, linewidth=0.7 if len(order) > _MOST_NAMES else 1.5)
    lowest.scatter(places, average_precision, color=_RED, s=6, zorder=3)
    lowest.set(ylim=(0, 1), ylabel="average precision", title=_with_map(result))
    _plain(lowest)
    _name_classes(lowest, [result.runs[0].names[k] for k in order], "classes, most training clips first")
    return figure


def _training_against_evaluation(result: Result, quality: NDArray[np.float64] | None) -> Figure:
    counts = result.training_counts()
    order = np.argsort(-counts, kind="stable")
    places = np.arange(len(order))
    figure = Figure(figsize=(_width(len(order)), 9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    training = result.training_average_precision()
    if training is not None:
        upper.plot(places, training[order], "--", color="#777777", linewidth=0.9, label="AP, training clips")
    upper.plot(
        places, result.average_precision()[order], color=_MARKS[0][0], linewidth=1.2, label="AP, evaluation clips"
    )
    if quality is not None:
        is_rated = np.isfinite(quality[order])
        upper.plot(places[is_rated], quality[order][is_rated], "+", color=_RED, markersize=5, label="label quality")
        upper.plot(places[~is_rated], np.zeros((~is_rated).sum()), "_", color=_RED, markersize=5, label="not rated")
    upper.set(ylim=(-0.02, 1.02), ylabel="average precision" + (", label quality" if quality is not None else ""))
    upper.set_title(_with_map(result), loc="left")
    upper.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False)
    _plain(upper)
    _count_bars(lower, counts[order])
    lower.set_ylabel("training clips (log)")
    _name_classes(lower, [result.runs[0].names[k] for k in order], "classes, most training clips first")
    return figure


def _class_wise(results: Sequence[Result]) -> Figure:
    order = np.argsort(-np.nan_to_num(results[-1].average_precision(), nan=-1), kind="stable")
    figure = Figure(figsize=(_width(len(order)), 6), layout="constrained")
    axes = figure.subplots()
    for result, (color, _) in zip(results, _MARKS[len(results) - 1 :: -1], strict=True):
        last = result is results[-1]
        axes.plot(
            result.average_precision()[order],
            color=color,
            linewidth=2 if last else 0.9,
            zorder=3 if last else 2,
            label=_with_map(result),
        )
    axes.set(ylim=(0, 1), ylabel="average precision", title="Class-wise AP on the evaluation clips")
    axes.legend(loc="upper right")
    _plain(axes)
    _name_classes(axes, [results[0].runs[0].names[k] for k in order], f"classes, sorted by {_title(results[-1])}")
    return figure


def _every_class(results: Sequence[Result]) -> Figure:
    names = results[0].runs[0].names
    order = np.argsort(-np.nan_to_num(results[0].average_precision(), nan=-1), kind="stable")
    num_columns = int(np.clip(np.ceil(len(names) / 90), 1, 5))
    rows = -(-len(names) // num_columns)
    figure = Figure(figsize=(5.2 * num_columns + 0.5, 0.17 * rows + 1.8), layout="constrained")
    columns = figure.subplots(1, num_columns, squeeze=False)[0]
    for column, axes in enumerate(columns):
        part = order[column * rows : (column + 1) * rows]
        places = np.arange(len(part))
        for result, (color, mark) in zip(results, _MARKS, strict=False):
            found = result.average_precision()[part]
            axes.scatter(found, places, s=16, marker=mark, color=color, alpha=0.85, label=_with_map(result))
        axes.set_yticks(places, [_short(names[k]) for k in part], fontsize=8)
        axes.set(xlim=(-0.02, 1.02), ylim=(rows - 0.5, -0.5), xlabel="average precision")
        axes.tick_params(axis="x", top=True, labeltop=True)
        axes.set_axisbelow(True)
        axes.grid(True, axis="both", linewidth=0.4, color="#dddddd")
    handles, labels = columns[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels) if num_columns > 1 else 1, fontsize=11)
    return figure


def _of_figure_8(results: Sequence[Result]) -> list[Result]:
    found = [next(filter(None, (_chosen(results, name) for name in names)), None) for names in _FIGURE_8]
    return [result for result in found if result] or [_best(results)]


def _of_figure_9(results: Sequence[Result]) -> list[Result]:
    found = [result for name in _FIGURE_9 if (result := _chosen(results, name))]
    systems = {result.system for result in results} - {"random_guess", *_FIGURE_9}
    others = [result for system in systems if (result := _chosen(results, system))]
    others.sort(key=lambda result: (-result.figures("map").mean(), result.system))
    return (found + others)[: len(_MARKS)] or [_best(results)]


def _chosen(results: Sequence[Result], system: str) -> Result | None:
    """The system's result at the published size where there is one."""
    of_system = [result for result in results if result.system == system]
    published = {"units": 1024, "depth": 3, "phi": "sigmoid"}
    of_system.sort(key=lambda r: any(r.what.get(key, value) != value for key, value in published.items()))
    return of_system[0] if of_system else None


def _best(results: Sequence[Result]) -> Result:
    return max(results, key=lambda result: result.figures("map").mean())


def _title(result: Result) -> str:
    return _TITLES.get(result.system, result.system.replace("_", " "))


def _with_map(result: Result) -> str:
    return f"{_title(result)}, mAP {result.figures('map').mean():.3f}"


def _count_bars(axes: Axes, counts: NDArray[np.int64]) -> None:
    """Bars on a log axis; a class without a clip gets none."""
    axes.bar(np.arange(len(counts)), counts, width=1 if len(counts) > _MOST_NAMES else 0.8, color=_BARS)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.8)
    _plain(axes)


def _width(num_classes: int) -> float:
    return float(np.clip(4 + 0.3 * num_classes, 8, 18))


def _name_classes(axes: Axes, names: Sequence[str], title: str) -> None:
    """Class names under the axis; of more than fit, evenly spaced ones."""
    step = -(-len(names) // _MOST_NAMES)
    places = range(0, len(names), step)
    axes.set_xticks(
        places, [_short(names[place]) for place in places], rotation=90, fontsize=7 if len(names) > 60 else 9
    )
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_xlabel(title + (f" (every {_ordinal(step)} is named)" if step > 1 else ""))


def _ordinal(step: int) -> str:
    return {2: "second", 3: "third"}.get(step, f"{step}th")


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else name[: most - 1].rstrip(" ,") + "…"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(True, axis="y", linewidth=0.5, color="#dddddd")


def _save(figure: Figure, path: Path) -> Path:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI)
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(image.getvalue())
    return beside.replace(path)
