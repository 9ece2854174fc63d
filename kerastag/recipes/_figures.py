"""Figures 4, 6, 7, 8 and 9 of paper 1, drawn from finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from kerastag.files import atomic_path
from kerastag.recipes._results import PUBLISHED_SIZE, Result

__all__ = ["draw_figures"]

_TITLES = {
    "es_average": "ES average",
    "decision_attention": "decision-level attention",
    "multi_attention": "decision-level multi attention",
    "feature_attention": "feature-level attention",
}
_FIGURE_9 = ("feature_attention", "multi_attention", "decision_attention", "es_average")
_MARKERS = (("#1f4e9e", "o"), ("#d1495b", "D"), ("#2a9d5c", "^"), ("#8a6fb0", "s"), ("#c98a1b", "v"), ("#555555", "x"))
_BARS = "#b9c6d8"
_RED = "#c1121f"
_SPLITS = {"unbal_train": "unbalanced training", "bal_train": "balanced training", "eval": "evaluation"}
_MAX_NAMES = 110  # class names that fit under a wide figure
_DPI = 110


def draw_figures(
    results: Sequence[Result], output: Path, quality: NDArray[np.float64] | None = None, dpi: int = _DPI
) -> None:
    """Draw the figures of finished runs into a folder: `figure_4.png`, `figure_6.png`, ….

    Each shows the systems of the paper where there are runs of them, otherwise the best system: feature-level attention
    in figure 6, ES average in figure 7, three systems in figure 8. `quality` is the fraction of correct labels of each
    class, for figure 7, and `dpi` the number of dots per inch.
    """
    best = max(results, key=Result.mean_map)
    systems: dict[str, Result] = {}
    for result in sorted(results, key=_is_other_size):  # the published size first
        systems.setdefault(result.system, result)
    decision_level = systems.get("decision_attention") or systems.get("multi_attention")
    class_wise = [systems.get("es_average"), decision_level, systems.get("feature_attention")]
    others = systems.keys() - {"random_guess", *_FIGURE_9}
    names = [*_FIGURE_9, *sorted(others, key=lambda name: (-systems[name].mean_map(), name))]
    every_class = [systems[name] for name in names if name in systems][: len(_MARKERS)]
    figures = {
        4: _draw_labels_per_clip(results[0]),
        6: _draw_clips_per_class(systems.get("feature_attention", best)),
        7: _draw_training_and_evaluation(systems.get("es_average", best), quality),
        8: _draw_class_wise([result for result in class_wise if result] or [best]),
        9: _draw_every_class(every_class or [best]),
    }
    for number, figure in figures.items():
        with atomic_path(output / f"figure_{number}.png") as temporary_path:
            figure.savefig(temporary_path, format="png", dpi=dpi)


def _is_other_size(result: Result) -> bool:
    return any(result.identity.get(name, value) != value for name, value in PUBLISHED_SIZE.items())


def _draw_labels_per_clip(result: Result) -> Figure:
    per_clip = result.runs[0].metrics["labels_per_clip"]
    splits = [split for split in per_clip if per_clip[split]]
    figure = Figure(figsize=(1.5 + 4.5 * len(splits), 4), layout="constrained")
    for axes, split in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        counts = {int(labels): clips for labels, clips in per_clip[split].items()}
        places = range(min(counts), max(counts) + 1)
        bars = axes.bar(places, [counts.get(place, 0) for place in places], color=_MARKERS[0][0])
        axes.bar_label(bars, [f"{counts[p]:,}" if counts.get(p) else "" for p in places], fontsize=7, padding=2)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=20, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.margins(y=0.1)
        title = f"{_SPLITS.get(split, split)}, {sum(counts.values()):,} clips"
        axes.set(xlabel="classes in a clip", ylabel="clips", title=title)
        _style_axes(axes)
    return figure


def _draw_clips_per_class(result: Result) -> Figure:
    counts = result.runs[0].metrics["class_counts"]
    splits = list(counts)
    order = np.argsort(-result.training_counts(), kind="stable")
    places = np.arange(len(order))
    figure = Figure(figsize=(_figure_width(len(order)), 3.5 + 2 * len(splits)), layout="constrained")
    *panels, lowest = figure.subplots(len(splits) + 1, 1, sharex=True)
    for axes, split in zip(panels, splits, strict=True):
        in_order = np.asarray(counts[split])[order]
        _draw_count_bars(axes, in_order)
        title = f"{_SPLITS.get(split, split)}: {in_order.min():,} to {in_order.max():,} clips per class"
        axes.set(ylabel="clips (log)", title=title)
    average_precision = result.average_precision()[order]
    lowest.vlines(places, 0, average_precision, color=_RED, linewidth=0.7 if len(order) > _MAX_NAMES else 1.5)
    lowest.scatter(places, average_precision, color=_RED, s=6, zorder=3)
    lowest.set(ylim=(0, 1), ylabel="average precision", title=_title_with_map(result))
    _style_axes(lowest)
    _label_classes(lowest, [result.names[k] for k in order], "classes, most training clips first")
    return figure


def _draw_training_and_evaluation(result: Result, quality: NDArray[np.float64] | None) -> Figure:
    counts = result.training_counts()
    order = np.argsort(-counts, kind="stable")
    places = np.arange(len(order))
    figure = Figure(figsize=(_figure_width(len(order)), 9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    training = result.training_average_precision()
    if training is not None:
        upper.plot(places, training[order], "--", color="#777777", linewidth=0.9, label="AP, training clips")
    average_precision = result.average_precision()[order]
    upper.plot(places, average_precision, color=_MARKERS[0][0], linewidth=1.2, label="AP, evaluation clips")
    if quality is not None:
        is_rated = np.isfinite(quality[order])
        upper.plot(places[is_rated], quality[order][is_rated], "+", color=_RED, markersize=5, label="label quality")
        upper.plot(places[~is_rated], np.zeros((~is_rated).sum()), "_", color=_RED, markersize=5, label="not rated")
    upper.set(ylim=(-0.02, 1.02), ylabel="average precision" + (", label quality" if quality is not None else ""))
    upper.set_title(_title_with_map(result), loc="left")
    upper.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False)
    _style_axes(upper)
    _draw_count_bars(lower, counts[order])
    lower.set_ylabel("training clips (log)")
    _label_classes(lower, [result.names[k] for k in order], "classes, most training clips first")
    return figure


def _draw_class_wise(results: Sequence[Result]) -> Figure:
    order = np.argsort(-np.nan_to_num(results[-1].average_precision(), nan=-1), kind="stable")
    figure = Figure(figsize=(_figure_width(len(order)), 6), layout="constrained")
    axes = figure.subplots()
    for result, (color, _) in zip(results, _MARKERS[len(results) - 1 :: -1], strict=True):
        style = {"linewidth": 2, "zorder": 3} if result is results[-1] else {"linewidth": 0.9, "zorder": 2}
        axes.plot(result.average_precision()[order], color=color, label=_title_with_map(result), **style)
    axes.set(ylim=(0, 1), ylabel="average precision", title="Class-wise AP on the evaluation clips")
    axes.legend(loc="upper right")
    _style_axes(axes)
    _label_classes(axes, [results[0].names[k] for k in order], f"classes, sorted by {_title(results[-1])}")
    return figure


def _draw_every_class(results: Sequence[Result]) -> Figure:
    names = results[0].names
    order = np.argsort(-np.nan_to_num(results[0].average_precision(), nan=-1), kind="stable")
    num_columns = int(np.clip(np.ceil(len(names) / 90), 1, 5))
    rows = -(-len(names) // num_columns)
    figure = Figure(figsize=(5.2 * num_columns + 0.5, 0.17 * rows + 1.8), layout="constrained")
    columns = figure.subplots(1, num_columns, squeeze=False)[0]
    for column, axes in enumerate(columns):
        part = order[column * rows : (column + 1) * rows]
        places = np.arange(len(part))
        for result, (color, marker) in zip(results, _MARKERS, strict=False):
            style = {"s": 16, "marker": marker, "color": color, "alpha": 0.85, "label": _title_with_map(result)}
            axes.scatter(result.average_precision()[part], places, **style)
        axes.set_yticks(places, [_shorten(names[k]) for k in part], fontsize=8)
        axes.set(xlim=(-0.02, 1.02), ylim=(rows - 0.5, -0.5), xlabel="average precision")
        axes.tick_params(axis="x", top=True, labeltop=True)
        axes.set_axisbelow(True)
        axes.grid(True, axis="both", linewidth=0.4, color="#dddddd")
    handles, labels = columns[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels) if num_columns > 1 else 1, fontsize=11)
    return figure


def _title(result: Result) -> str:
    return _TITLES.get(result.system, result.system.replace("_", " "))


def _title_with_map(result: Result) -> str:
    return f"{_title(result)}, mAP {result.mean_map():.3f}"


def _draw_count_bars(axes: Axes, counts: NDArray[np.int64]) -> None:
    """Draw bars on a log axis; a class without clips gets none."""
    axes.bar(np.arange(len(counts)), counts, width=1 if len(counts) > _MAX_NAMES else 0.8, color=_BARS)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.8)
    _style_axes(axes)


def _figure_width(num_classes: int) -> float:
    return float(np.clip(4 + 0.3 * num_classes, 8, 18))


def _label_classes(axes: Axes, names: Sequence[str], title: str) -> None:
    """Write the class names under the axis; if they do not all fit, evenly spaced ones."""
    step = -(-len(names) // _MAX_NAMES)
    places = range(0, len(names), step)
    labels = [_shorten(names[place]) for place in places]
    axes.set_xticks(places, labels, rotation=90, fontsize=7 if len(names) > 60 else 9)
    axes.set_xlim(-0.7, len(names) - 0.3)
    ordinal = {2: "second", 3: "third"}.get(step, f"{step}th")
    axes.set_xlabel(title + (f" (every {ordinal} one labeled)" if step > 1 else ""))


def _shorten(name: str) -> str:
    return name if len(name) <= 34 else name[:33].rstrip(" ,") + "…"


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(True, axis="y", linewidth=0.5, color="#dddddd")
