"""Paired bootstrap comparison of finished runs: does one system have a higher mAP than another on the same clips?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerastag.files import write_json
from kerastag.markdown import format_table
from kerastag.metrics.bootstrap import bootstrap_average_precision, draw_bootstrap_counts
from kerastag.metrics.classification import compute_metrics
from kerastag.recipes._evaluation import check_same_clips, predict_run
from kerastag.recipes._results import Result, describe_results, read_results
from kerastag.rng import Purpose, generator
from kerastag.training.run_data import RunData

__all__ = ["ClassDifference", "Comparison", "compare_neighbors", "compare_runs", "format_neighbors", "save_comparisons"]

_INTERVAL = (2.5, 97.5)  # percentiles
_FALSE_DISCOVERY_RATE = 0.05
_MIN_POSITIVES = 5  # With fewer, the bootstrap underestimates how much the AP of a class varies.


@dataclass(frozen=True)
class Samples:
    """Average precision of a system in every bootstrap sample.

    Attributes:
        title: System, and the configuration in which it differs from the others.
        num_runs: Number of runs, which differ only in their seed.
        average_precision: AP of each class, mean over the runs, `(classes,)`.
        samples: The same in each sample of clips and runs, `(samples, classes)`.
    """

    title: str
    num_runs: int
    average_precision: NDArray[np.float64]
    samples: NDArray[np.float64]


@dataclass(frozen=True)
class ClassDifference:
    """Difference of the average precision of one class."""

    name: str
    num_positives: int
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    is_significant: bool


@dataclass(frozen=True)
class Comparison:
    """Comparison of two systems; `str` of it is a text to print.

    Attributes:
        first: Title of the first system.
        second: Title of the second system.
        num_runs: Number of runs of each.
        maps: mAP of each, mean over its runs.
        difference: mAP of the first minus that of the second.
        interval: 95% interval of the difference.
        classes: Differences of the classes that have positive clips, largest first.
    """

    first: str
    second: str
    num_runs: tuple[int, int]
    maps: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    classes: tuple[ClassDifference, ...]

    @property
    def verdict(self) -> str:
        """What the interval shows of the first system: `better`, `worse` or `no difference shown`."""
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "no difference shown"

    def __str__(self) -> str:
        lines = [
            f"{title}, {count} run{'' if count == 1 else 's'}: mAP {value:.4f}"
            for title, count, value in zip((self.first, self.second), self.num_runs, self.maps, strict=True)
        ]
        lines.append(f"difference of mAP {_format_difference(self.difference, self.interval)}: {self.verdict}")
        if 1 in self.num_runs:
            lines.append("of a system with one run, the interval does not contain how much mAP varies with the seed")
        changed = [entry for entry in self.classes if entry.is_significant]
        num_better = sum(entry.difference > 0 for entry in changed)
        lines.append(
            f"{num_better} classes better and {len(changed) - num_better} worse of {len(self.classes)}, "
            f"at a false discovery rate of {_FALSE_DISCOVERY_RATE:.0%}"
        )
        if changed:
            rows = [
                (entry.name, f"{entry.num_positives:,}", f"{entry.first:.3f}", f"{entry.second:.3f}",
                 _format_difference(entry.difference, entry.interval))
                for entry in changed
            ]  # fmt: skip
            lines += ["", format_table(("class", "clips", "first AP", "second AP", "difference, 95% interval"), rows)]
        return "\n".join(lines)


def compare_runs(
    first: Sequence[str | Path],
    second: Sequence[str | Path],
    data_dir: str | Path | None = None,
    num_samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare the mAP of two systems on the same clips by a paired bootstrap.

    Every bootstrap sample draws as many clips as there are, the same for all runs, and for each system as many of its
    runs as there are, both with replacement. The deviation of the mean of the drawn runs is multiplied by
    `sqrt(n / (n - 1))` for `n` runs, without which so few would vary too little. Predictions are the mean of a run's
    checkpoints, computed from its files.

    A class is significant by a test of its difference divided by its standard deviation over the samples, with the
    procedure of Benjamini and Hochberg; classes with fewer than five positive clips are not tested.

    Args:
        first: Folders of finished runs of a system, which differ only in their seed.
        second: Those of another system.
        data_dir: Folder of packs; by default, that of each run.
        num_samples: Number of bootstrap samples, at least 100.
        seed: Seed of the samples, at least 0.

    Raises:
        FileNotFoundError: There is no such run, or its packs do not exist.
        ValueError: A run is not finished, runs of a system differ in more than their seed, a run is given twice, or
            runs were evaluated on other clips or classes.
    """
    for name, paths in (("first", first), ("second", second)):
        results = read_results(paths)
        if len(results) > 1:
            titles = "; ".join(describe_results(results))
            raise ValueError(f"`{name}` must hold runs that differ only in their seed; received: {titles}")
    results = read_results([*first, *second])
    if len(results) < 2:
        raise ValueError("`first` and `second` must differ in more than their seed; received: runs of one system")
    samples, data = _draw_samples(results, data_dir, num_samples, seed)
    return _compare(samples[0], samples[1], data)


def compare_neighbors(
    runs: Sequence[str | Path], data_dir: str | Path | None = None, num_samples: int = 1000, seed: int = 0
) -> list[Comparison]:
    """Compare each system with the next lower one in a table sorted by mAP, best first; see `compare_runs`.

    Args:
        runs: Folders of finished runs of at least two systems; those that differ only in their seed are one system.
        data_dir: Folder of packs; by default, that of each run.
        num_samples: Number of bootstrap samples, at least 100.
        seed: Seed of the samples, at least 0.

    Raises:
        FileNotFoundError: There is no such run, or its packs do not exist.
        ValueError: As for `compare_runs`.
    """
    results = read_results(runs)
    if len(results) < 2:
        raise ValueError("`runs` must hold runs that differ in more than their seed; received: runs of one system")
    samples, data = _draw_samples(results, data_dir, num_samples, seed)
    samples.sort(key=lambda system: -np.nanmean(system.average_precision))
    return [_compare(better, worse, data) for better, worse in pairwise(samples)]


def format_neighbors(comparisons: Sequence[Comparison]) -> str:
    """Format the comparisons of neighbors as a table with one row for each system."""
    rows = [
        (c.first, str(c.num_runs[0]), f"{c.maps[0]:.4f}", _format_difference(c.difference, c.interval), c.verdict)
        for c in comparisons
    ]
    last = comparisons[-1]
    rows.append((last.second, str(last.num_runs[1]), f"{last.maps[1]:.4f}", "", ""))
    return format_table(("system", "runs", "mAP", "difference from the next, 95% interval", "than the next"), rows)


def save_comparisons(comparisons: Sequence[Comparison], path: str | Path) -> None:
    """Write comparisons with the differences of all classes to a JSON file."""
    write_json(path, {"comparisons": [{**asdict(each), "verdict": each.verdict} for each in comparisons]})


def _draw_samples(
    results: Sequence[Result], data_dir: str | Path | None, num_samples: int, seed: int
) -> tuple[list[Samples], RunData]:
    """Draw the bootstrap samples of every system, and return the clips of the first run with them."""
    if num_samples < 100:
        raise ValueError(f"`num_samples` must be at least 100; received: {num_samples}")
    random = generator(seed, Purpose.BOOTSTRAP)
    first: RunData | None = None
    systems = []
    for title, result in zip(describe_results(results), results, strict=True):
        exact, samples = [], []
        for run in result.runs:
            print(f"predicting {run.path}", file=sys.stderr)
            data, predictions = predict_run(run.path, data_dir)
            if first is None:
                first, first_path = data, run.path
                counts = draw_bootstrap_counts(len(data.targets), num_samples, random)
            check_same_clips(first_path, first, run.path, data)
            exact.append(compute_metrics(data.targets, predictions, data.labels.names).average_precision)
            samples.append(bootstrap_average_precision(data.targets, predictions, counts))
        weights = _draw_run_weights(len(samples), num_samples, random)
        systems.append(
            Samples(title, len(exact), np.mean(exact, axis=0), np.einsum("rs,rsk->sk", weights, np.stack(samples)))
        )
    assert first is not None
    return systems, first


def _draw_run_weights(num_runs: int, num_samples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw the weight of each run in the mean of every sample, `(runs, samples)`."""
    if num_runs == 1:
        return np.ones((1, num_samples))
    deviations = random.multinomial(num_runs, np.full(num_runs, 1 / num_runs), size=num_samples).T - 1.0
    return (1 + np.sqrt(num_runs / (num_runs - 1)) * deviations) / num_runs


def _compare(first: Samples, second: Samples, data: RunData) -> Comparison:
    maps = float(np.nanmean(first.average_precision)), float(np.nanmean(second.average_precision))
    by_class = first.samples - second.samples
    low, high = np.percentile(np.nanmean(by_class, axis=1), _INTERVAL)
    return Comparison(
        first=first.title,
        second=second.title,
        num_runs=(first.num_runs, second.num_runs),
        maps=maps,
        difference=maps[0] - maps[1],
        interval=(float(low), float(high)),
        classes=_compare_classes(first, second, by_class, data),
    )


def _compare_classes(
    first: Samples, second: Samples, by_class: NDArray[np.float64], data: RunData
) -> tuple[ClassDifference, ...]:
    from scipy.special import erfc
    from scipy.stats import false_discovery_control

    num_positives = data.targets.sum(axis=0)
    present = np.flatnonzero(num_positives)
    differences = (first.average_precision - second.average_precision)[present]
    samples = by_class[:, present]
    spread = np.nanstd(samples, axis=0)
    z = np.divide(np.abs(differences), spread, out=np.zeros_like(spread), where=spread > 0)
    z[num_positives[present] < _MIN_POSITIVES] = 0
    is_significant = false_discovery_control(erfc(z / np.sqrt(2))) <= _FALSE_DISCOVERY_RATE
    lows, highs = np.nanpercentile(samples, _INTERVAL, axis=0)
    entries = [
        ClassDifference(
            data.labels.names[k],
            int(num_positives[k]),
            float(first.average_precision[k]),
            float(second.average_precision[k]),
            float(differences[i]),
            (float(lows[i]), float(highs[i])),
            bool(is_significant[i]),
        )
        for i, k in enumerate(present)
    ]
    return tuple(sorted(entries, key=lambda entry: -entry.difference))


def _format_difference(difference: float, interval: tuple[float, float]) -> str:
    return f"{difference:+z.4f} ({interval[0]:+z.4f} to {interval[1]:+z.4f})"
