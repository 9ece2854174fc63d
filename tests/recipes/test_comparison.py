"""Tests of the comparison of runs: intervals of differences of mAP, and the classes that differ."""

import importlib
import json
import re
import shutil

import numpy as np
import pytest

from kerastag.cli import main
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.metrics import compute_metrics
from kerastag.recipes._comparison import compare_neighbors, compare_runs
from kerastag.recipes._evaluation import predict_run
from kerastag.recipes._results import describe_results, read_results

SMALL = ("--steps", "40", "--batch-size", "40", "--checkpoints", "1", "--units", "16", "--depth", "1")
SMALL = (*SMALL, "--learning-rate", "0.01")


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_synthetic_packs(folder, num_train=200, num_eval=400, num_classes=4, num_features=16)
    return folder


def train(system, packs, folder, *more):
    arguments = ["--data-dir", str(packs), "--run-dir", str(folder), *map(str, more)]
    assert importlib.import_module(f"kerastag.recipes.{system}").main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def runs(packs, tmp_path_factory):
    """Train a system with two seeds, and guess with two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "es": [train("es_average", packs, folder / f"es_{seed}", *SMALL, "--seed", seed) for seed in (0, 1)],
        "guess": [train("random_guess", packs, folder / f"guess_{seed}", "--seed", seed) for seed in (0, 1)],
    }


@pytest.fixture(scope="module")
def comparison(runs):
    return compare_runs(runs["es"], runs["guess"], num_samples=200)


def test_the_difference_is_that_of_the_metrics_of_the_runs(runs, comparison):
    maps = {
        name: np.mean(
            [json.loads((run / "metrics.json").read_text(encoding="utf-8"))["ensemble"]["map"] for run in folders]
        )
        for name, folders in runs.items()
    }
    assert comparison.maps == pytest.approx((maps["es"], maps["guess"]), abs=1e-6)
    assert comparison.difference == pytest.approx(maps["es"] - maps["guess"], abs=1e-6)
    assert comparison.num_runs == (2, 2)
    low, high = comparison.interval
    assert 0 < low < comparison.difference < high
    assert comparison.verdict == "better"


def test_the_reverse_comparison_is_worse_by_as_much(runs, comparison):
    reverse = compare_runs(runs["guess"], runs["es"], num_samples=200)
    assert reverse.verdict == "worse"
    assert reverse.difference == -comparison.difference
    assert [entry.name for entry in reverse.classes] == [entry.name for entry in comparison.classes[::-1]]


def test_the_interval_is_as_wide_as_that_of_independent_repetitions(runs, packs):
    first, second = runs["es"][:1], runs["guess"][:1]
    low, high = compare_runs(first, second, num_samples=400).interval
    (data, a), (_, b) = predict_run(first[0]), predict_run(second[0])
    random = np.random.default_rng(0)
    halves = [random.permutation(400)[:200] for _ in range(200)]
    differences = [
        compute_metrics(data.targets[half], a[half]).map - compute_metrics(data.targets[half], b[half]).map
        for half in halves
    ]  # without replacement, the spread of halves is that of all clips
    assert (high - low) / 3.92 == pytest.approx(np.std(differences), rel=0.25)


def test_classes_are_listed_with_their_own_intervals(runs, comparison):
    data, _ = predict_run(runs["es"][0])
    assert {entry.name for entry in comparison.classes} == set(data.labels.names)
    differences = [entry.difference for entry in comparison.classes]
    assert differences == sorted(differences, reverse=True)
    for entry in comparison.classes:
        assert entry.interval[0] < entry.difference < entry.interval[1]
        assert entry.first - entry.second == pytest.approx(entry.difference)
    assert any(entry.is_significant for entry in comparison.classes)


def test_two_guesses_do_not_differ(runs, packs, tmp_path):
    other = train("random_guess", packs, tmp_path / "held_out", "--seed", 9, "--train-packs", '["bal_train", "more"]')
    comparison = compare_runs(runs["guess"], [other], num_samples=200)
    assert comparison.verdict == "no difference shown"
    assert not any(entry.is_significant for entry in comparison.classes)
    assert "the interval does not contain how much mAP varies with the seed" in str(comparison)


def test_the_command_compares_two_systems_and_writes_json(runs, tmp_path, capsys):
    first, second = map(str, runs["es"]), map(str, runs["guess"])
    arguments = [*first, "--", *second, "--num-samples", "100", "--json", str(tmp_path / "out.json")]
    assert main(["compare", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"es_average, 2 runs: mAP 0\.\d{4}", lines[0])
    assert re.fullmatch(r"random_guess, 2 runs: mAP 0\.\d{4}", lines[1])
    assert re.fullmatch(r"difference of mAP \+0\.\d{4} \(\+0\.\d{4} to \+0\.\d{4}\): better", lines[2])
    assert re.fullmatch(r"\d classes better and \d worse of 4, at a false discovery rate of 5%", lines[3])
    (written,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["comparisons"]
    assert written["verdict"] == "better"
    assert len(written["classes"]) == 4


def test_neighbors_of_a_table_are_compared_best_first(runs, packs, tmp_path, capsys):
    natural = train("es_average", packs, tmp_path / "natural", *SMALL, "--balance", "0")
    folders = [runs["guess"][0], *runs["es"], natural]
    capsys.readouterr()
    assert main(["compare", *map(str, folders), "--num-samples", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert {line.split(" | ")[0] for line in lines[2:4]} == {"| es_average, balance 1.0", "| es_average, balance 0.0"}
    assert lines[4].startswith("| random_guess | 1 | 0.")
    assert lines[3].endswith("| better |")
    maps = [float(line.split(" | ")[2]) for line in lines[2:]]
    assert maps == sorted(maps, reverse=True)


def test_runs_that_cannot_be_compared_are_named(runs, packs, tmp_path):
    with pytest.raises(ValueError, match="`first` must hold runs that differ only in their seed; received: es_average"):
        compare_runs([runs["es"][0], runs["guess"][0]], [runs["es"][1]])
    with pytest.raises(ValueError, match="must differ in more than their seed; received: runs of one system"):
        compare_runs(runs["es"][:1], runs["es"][1:])
    with pytest.raises(ValueError, match="`runs` must hold runs that differ in more than their seed"):
        compare_neighbors(runs["es"])
    held_out = train("random_guess", packs, tmp_path / "held_out", "--hold-out", "0.5")
    with pytest.raises(ValueError, match="held_out: was evaluated on other clips than .*es_0"):
        compare_runs(runs["es"], [held_out], num_samples=100)
    with pytest.raises(ValueError, match="`num_samples` must be at least 100; received: 99"):
        compare_runs(runs["es"], runs["guess"], num_samples=99)
    shutil.copytree(runs["es"][0], tmp_path / "unfinished")
    (tmp_path / "unfinished/metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="unfinished: not a finished run"):
        compare_runs(runs["es"], [tmp_path / "unfinished"])


def test_results_are_described_by_what_distinguishes_them(runs):
    assert describe_results(read_results([*runs["es"], runs["guess"][0]])) == ["es_average", "random_guess"]
