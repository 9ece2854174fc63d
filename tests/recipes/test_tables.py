"""Tests of the tables of both papers and of the figures of paper 1, made from finished runs."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.stats import pearsonr

from kerastag.cli import main as kerastag
from kerastag.data.synthetic_features import make_synthetic_class_names, make_synthetic_features
from kerastag.metrics import compute_d_prime, compute_metrics
from kerastag.recipes._results import read_results, read_run
from kerastag.recipes._tables import correlate, read_label_quality

CLASSES = 8
CONFIG = {"units": 1024, "depth": 3, "phi": "sigmoid", "balance": 1.0, "seed": 0, "steps": 100, "data_dir": "packs"}


def write_run(folder, system, skill=1.0, num_classes=CLASSES, splits=("bal_train", "eval"), **config):
    """Write a finished run as recipes do, with the metrics of scores that follow the targets with some `skill`."""
    targets = {
        split: make_synthetic_features(min(40 * num_classes, 1600), num_classes=num_classes, split=split).targets
        for split in splits
    }
    config = {"format": 1, "system": system, **CONFIG, "run_dir": str(folder), **config}
    rng = np.random.default_rng(config["seed"])
    by_split = {split: compute_metrics(y, rng.standard_normal(y.shape) + skill * y) for split, y in targets.items()}
    metrics = {
        "ensemble": by_split["eval"].as_dict(),
        "last": {**by_split["eval"].as_dict(), "map": by_split["eval"].map - 0.01},
        "train": {"average_precision": by_split["bal_train"].as_dict()["average_precision"]},
        "class_counts": {split: y.sum(axis=0).tolist() for split, y in targets.items()},
        "labels_per_clip": {
            split: {str(n): int(clips) for n, clips in enumerate(np.bincount(y.sum(axis=1))) if clips}
            for split, y in targets.items()
        },
        "labels": {"mids": [f"/m/{k}" for k in range(num_classes)], "names": make_synthetic_class_names(num_classes)},
        "seconds": 1.0,
        "steps": config["steps"],
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


def main(arguments):
    return kerastag(["tables", *arguments])


@pytest.fixture
def es(tmp_path):
    return write_run(tmp_path / "es", "es_average")


@pytest.fixture
def no_figures(monkeypatch):
    """Skip the figures, which take most of the time."""
    monkeypatch.setattr("kerastag.recipes._figures.draw_figures", lambda *_: None)


def read_table(output, number):
    with (output / f"table_{number}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def change(run, file, edit):
    content = json.loads((run / file).read_text(encoding="utf-8"))
    edit(content)
    (run / file).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.usefixtures("no_figures")
def test_runs_stand_in_their_rows_and_nowhere_else(tmp_path, capsys):
    runs = [
        write_run(tmp_path / "es", "es_average", 1.0),
        write_run(tmp_path / "full", "es_average", 1.1, balance=0),
        write_run(tmp_path / "multi", "multi_attention", 1.5),
        write_run(tmp_path / "fa", "feature_attention", 2.0),
        write_run(tmp_path / "wide", "feature_attention", 2.1, units=2048),
        write_run(tmp_path / "flat", "feature_attention", 0.5, depth=0),
        write_run(tmp_path / "relu", "feature_attention", 0.4, phi="relu"),
    ]
    output = tmp_path / "out"
    assert main([*map(str, runs), "--output", str(output)]) == 0
    values = {
        run.name: f"{json.loads((run / 'metrics.json').read_text(encoding='utf-8'))['ensemble']['map']:.4f}"
        for run in runs
    }

    def filled_rows(number):
        rows = read_table(output, number)
        return [(next(iter(row.values())), row["mAP"]) for row in rows if row["mAP"]]

    assert filled_rows("I") == [("(ES) average", values["es"]), ("(ES) average", values["full"])]
    assert filled_rows("IV") == [
        ("(ES) average", values["es"]),
        ("(ES) average", values["full"]),
        ("Decision-level multi attention", values["multi"]),
        ("Feature-level attention", values["fa"]),
    ]
    assert filled_rows("V") == [("ReLU", values["relu"]), ("sigmoid", values["fa"])]
    assert filled_rows("VI") == [("0", values["flat"]), ("3", values["fa"])]
    assert filled_rows("VII") == [("1024", values["fa"]), ("2048", values["wide"])]
    assert {row["with"] for row in read_table(output, "I") if row["mAP"]} == {"balance 1.0", "balance 0"}
    printed = capsys.readouterr().out
    assert printed.strip() == (output / "tables.md").read_text(encoding="utf-8").strip()
    assert re.findall(r"## Table (\w+)\.", printed) == ["I", "II", "III", "IV", "V", "VI", "VII"]
    assert "| JDC | 0.337 | 0.963 | 2.526 | – | – | – | – | – | – |  |" in printed


@pytest.mark.usefixtures("no_figures")
def test_table_ii_distinguishes_data_and_balancing(tmp_path):
    everything = ("bal_train", "unbal_train", "eval")
    runs = [
        write_run(tmp_path / "balanced", "es_average"),
        write_run(tmp_path / "natural", "es_average", splits=everything, balance=0.0),
        write_run(tmp_path / "full", "es_average", splits=everything, balance=1.0),
    ]
    output = tmp_path / "out"
    main([*map(str, runs), "--output", str(output)])
    rows = read_table(output, "II")
    assert [(row["data"], row["trained on"]) for row in rows] == [
        ("Balanced data", f"balanced, {40 * CLASSES:,} clips"),
        ("Full data, no balancing", f"full, {80 * CLASSES:,} clips"),
        ("Full data, balancing", f"full, {80 * CLASSES:,} clips"),
    ]


@pytest.mark.usefixtures("no_figures")
def test_seeds_are_averaged_with_their_spread(tmp_path):
    runs = [write_run(tmp_path / str(seed), "es_average", seed=seed) for seed in range(3)]
    maps = [json.loads((run / "metrics.json").read_text(encoding="utf-8"))["ensemble"]["map"] for run in runs]
    (result,) = read_results(runs)
    assert [run.seed for run in result.runs] == [0, 1, 2]
    main([*map(str, runs), "--output", str(tmp_path / "out")])
    row = next(row for row in read_table(tmp_path / "out", "I") if row["mAP"])
    assert row["mAP"] == f"{np.mean(maps):.4f} ± {np.std(maps, ddof=1):.4f}"
    assert row["last checkpoint mAP"] == f"{np.mean(maps) - 0.01:.4f} ± {np.std(maps, ddof=1):.4f}"
    assert row["runs"] == "3"


def test_table_iii_is_pearsons_correlation(es, tmp_path):
    quality = tmp_path / "quality.csv"
    shares = [0.1 * k for k in range(CLASSES)]
    lines = [f"/m/{k},10,{k}" for k in range(CLASSES - 1)] + [f"/m/{CLASSES - 1},0,0", "/m/other,10,3"]
    quality.write_text("\n".join(["label_id,num_rated,num_true", *lines]) + "\n", encoding="utf-8")
    main([str(es), "--output", str(tmp_path / "out"), "--label-quality", str(quality)])
    examples, labels = read_table(tmp_path / "out", "III")
    run = read_run(es)
    ap = np.array(run.metrics["ensemble"]["average_precision"])
    expected = pearsonr(ap, run.metrics["class_counts"]["bal_train"])
    assert (examples["PCC"], examples["p-value"]) == (f"{expected.statistic:.3f}", f"{expected.pvalue:.3g}")
    expected = pearsonr(ap[:-1], shares[:-1])
    assert (labels["PCC"], labels["p-value"]) == (f"{expected.statistic:.3f}", f"{expected.pvalue:.3g}")
    assert (examples["paper PCC"], labels["paper PCC"]) == ("0.169", "0.230")


@pytest.mark.usefixtures("no_figures")
def test_without_a_label_quality_file_table_iii_names_the_command_that_downloads_it(es, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path))
    main([str(es), "--output", str(tmp_path / "out")])
    examples, quality = read_table(tmp_path / "out", "III")
    assert float(examples["PCC"])
    assert quality["PCC"] == "not given: kerastag fetch audioset_label_quality"
    (tmp_path / "qa_true_counts.csv").write_text("label_id,num_rated,num_true\n/m/none,10,8\n", encoding="utf-8")
    main([str(es), "--output", str(tmp_path / "out")])  # does not rate the classes of the run
    assert read_table(tmp_path / "out", "III")[1]["PCC"].startswith("not given")
    lines = [f"/m/{k},10,{k}" for k in range(CLASSES)]
    (tmp_path / "qa_true_counts.csv").write_text(
        "\n".join(["label_id,num_rated,num_true", *lines]) + "\n", encoding="utf-8"
    )
    main([str(es), "--output", str(tmp_path / "out")])
    assert float(read_table(tmp_path / "out", "III")[1]["PCC"])


@pytest.mark.usefixtures("no_figures")
def test_the_d_prime_of_several_seeds_is_that_of_their_mean_auc(tmp_path):
    runs = [write_run(tmp_path / str(seed), "es_average", 1 + 2 * seed, seed=seed) for seed in range(2)]
    aucs = [json.loads((run / "metrics.json").read_text(encoding="utf-8"))["ensemble"]["mauc"] for run in runs]
    main([*map(str, runs), "--output", str(tmp_path / "out")])
    row = next(row for row in read_table(tmp_path / "out", "I") if row["mAP"])
    d_primes = [compute_d_prime(auc) for auc in aucs]
    assert row["d′"] == f"{compute_d_prime(np.mean(aucs)):.3f} ± {np.std(d_primes, ddof=1):.3f}"
    assert row["d′"].split()[0] != f"{np.mean(d_primes):.3f}"


@pytest.mark.usefixtures("no_figures")
def test_runs_of_gl_at_stand_in_the_tables_of_paper_2(tmp_path, capsys):
    gl_at = {"backbone": "cnn10", "streams": "both", "num_sub_clips": 5, "sub_clip_seconds": 3.0, "width": 1.0}
    for field in ("units", "depth", "phi"):
        gl_at[field] = None
    runs = {
        "alone": write_run(tmp_path / "alone", "gl_at", 1.0, **{**gl_at, "streams": "global"}),
        "both": write_run(tmp_path / "both", "gl_at", 2.0, **gl_at),
        "seven": write_run(tmp_path / "seven", "gl_at", 1.5, **{**gl_at, "num_sub_clips": 7}),
        "one second": write_run(tmp_path / "second", "gl_at", 1.2, **{**gl_at, "sub_clip_seconds": 1.0}),
        "talnet": write_run(tmp_path / "talnet", "gl_at", 1.3, **{**gl_at, "backbone": "talnet", "width": 0.125}),
        "cnn10": write_run(tmp_path / "cnn10", "cnn10", 1.0, width=1.0),
    }
    for run in runs.values():  # fields of embeddings, which these systems do not have
        change(run, "config.json", lambda config: [config.pop(name) for name in ("units", "depth", "phi")])
    streams = {"global": {"map": 0.1, "mauc": 0.5, "d_prime": 0.0}, "local": {"map": 0.2, "mauc": 0.75, "d_prime": 0.9}}
    change(runs["both"], "metrics.json", lambda metrics: metrics.update(streams))
    values = {
        n: f"{json.loads((r / 'metrics.json').read_text(encoding='utf-8'))['ensemble']['map']:.4f}"
        for n, r in runs.items()
    }
    assert main([*map(str, runs.values()), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^## ([\w ]+)\.", printed, re.M) == ["Table 1", "Table 2", "Figure 2a", "Figure 2b"]
    assert printed.startswith("# A Global-Local Attention Framework")

    def filled_rows(name):
        with (tmp_path / f"out/{name}.csv").open(newline="", encoding="utf-8") as file:
            return {next(iter(row.values())): row for row in csv.DictReader(file) if row["mAP"]}

    table = filled_rows("table_1")
    assert {label: row["mAP"] for label, row in table.items()} == {
        "TALNet + GL-AT": values["talnet"],
        "CNN10": values["cnn10"],
        "CNN10 + GL-AT": values["both"],
    }
    assert table["TALNet + GL-AT"]["with"] == "width 0.125"
    table = filled_rows("table_2")
    expected = {"CNN10 alone": values["alone"], "global stream": "0.1000", "local stream": "0.2000"}
    assert {label: row["mAP"] for label, row in table.items()} == {**expected, "both streams": values["both"]}
    assert (table["global stream"]["paper mAP"], table["local stream"]["paper AUC"]) == ("0.389", "0.972")
    assert table["local stream"]["paper d′"] == table["local stream"]["last checkpoint mAP"] == ""
    assert {label: row["mAP"] for label, row in filled_rows("figure_2a").items()} == {
        "5": values["both"],
        "7": values["seven"],
    }
    assert {label: row["mAP"] for label, row in filled_rows("figure_2b").items()} == {
        "1": values["one second"],
        "3": values["both"],
    }


def test_a_correlation_of_too_few_or_constant_values_is_none():
    assert correlate(np.array([0.1, np.nan, 0.3]), np.array([1, 2, 3])) is None
    assert correlate(np.array([0.1, 0.2, 0.3]), np.array([5, 5, 5])) is None
    assert correlate(np.array([0.3, 0.2, 0.1]), np.array([1, 2, 3]))[0] == pytest.approx(-1)


@pytest.mark.parametrize("num_classes", [2, 8, pytest.param(527, marks=pytest.mark.slow)])
def test_figures_are_drawn_for_any_number_of_classes(tmp_path, num_classes):
    skills = {"es_average": 1.0, "multi_attention": 1.5, "feature_attention": 2.0, "jdc": 1.0}
    runs = [write_run(tmp_path / name, name, skill, num_classes) for name, skill in skills.items()]
    assert main([*map(str, runs), "--output", str(tmp_path / "out")]) == 0
    figures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert figures == [f"figure_{number}.png" for number in (4, 6, 7, 8, 9)]
    for name in figures:
        image = imread(tmp_path / "out" / name)
        assert image.shape[0] > 200
        assert image[..., :3].std() > 0.05
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.usefixtures("no_figures")
def test_a_small_run_stands_in_the_rows_of_systems_with_its_size(tmp_path):
    run = write_run(tmp_path / "small", "feature_attention", units=64, data_dir=None)
    main([str(run), "--output", str(tmp_path / "out")])
    (row,) = (row for row in read_table(tmp_path / "out", "IV") if row["mAP"])
    assert (row["with"], row["trained on"]) == ("units 64", f"synthetic, {40 * CLASSES} clips")
    assert not any(row["mAP"] for number in ("V", "VI", "VII") for row in read_table(tmp_path / "out", number))


def test_a_run_without_training_metrics_or_last_checkpoint_is_tabulated(es, tmp_path):
    change(es, "metrics.json", lambda metrics: [metrics.pop(key) for key in ("last", "train", "steps", "seconds")])
    assert main([str(es), "--output", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("config.json", lambda c: c.pop("system"), "config.json: `system` must name a recipe; received: None"),
        ("metrics.json", lambda m: m.pop("ensemble"), "metrics.json: key `ensemble.map` is missing"),
        ("metrics.json", lambda m: m["ensemble"].pop("mauc"), "metrics.json: key `ensemble.mauc` is missing"),
        ("metrics.json", lambda m: m["class_counts"].pop("bal_train"), "`class_counts` must hold a training split"),
        ("metrics.json", lambda m: m["train"]["average_precision"].pop(), "`train.average_precision` must list 8"),
        (
            "metrics.json",
            lambda m: m["class_counts"].update(eval=3),
            "`class_counts.eval` must be a list; received: 3",
        ),
        ("metrics.json", lambda m: m["labels"].update(names=["a"]), "must list 1 classes"),
    ],
)
def test_a_damaged_run_is_one_line(es, tmp_path, capsys, file, edit, message):
    change(es, file, edit)
    assert main([str(es), "--output", str(tmp_path / "out")]) == 1
    assert_one_line(capsys, message)
    assert not (tmp_path / "out").exists()


def test_missing_and_unreadable_run_folders_are_one_line(es, tmp_path, capsys):
    output = ["--output", str(tmp_path / "out")]
    assert main([str(tmp_path / "nowhere"), *output]) == 1
    assert_one_line(capsys, "nowhere: no such run folder")
    (es / "metrics.json").write_text("{", encoding="utf-8")
    assert main([str(es), *output]) == 1
    assert_one_line(capsys, r"metrics.json: not a JSON file \(")
    (es / "metrics.json").write_text("[]", encoding="utf-8")
    assert main([str(es), *output]) == 1
    assert_one_line(capsys, "must contain a JSON object; received: list")
    (es / "metrics.json").unlink()
    assert main([str(es), *output]) == 1
    assert_one_line(capsys, r"not a finished run \(no metrics.json\)")


def test_duplicates_and_other_classes_are_one_line(es, tmp_path, capsys):
    output = ["--output", str(tmp_path / "out")]
    assert main([str(es), str(es / ".." / "es"), *output]) == 1
    assert_one_line(capsys, "this run folder is given twice")
    shutil.copytree(es, tmp_path / "copy")
    assert main([str(es), str(tmp_path / "copy"), *output]) == 1
    assert_one_line(capsys, "copy: has the same configuration and seed 0 as .*es")
    other = write_run(tmp_path / "other", "jdc", num_classes=3)
    assert main([str(es), str(other), *output]) == 1
    assert_one_line(capsys, "its 3 classes differ from the 8 of")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label_id,rated\n/m/1,3\n", "column `num_rated` is missing; received: label_id, rated"),
        ("label_id,num_rated,num_true\n/m/1,10,8\n/m/2,10,x\n", "line 3: counts must have .* received: x and 10"),
        ("label_id,num_rated,num_true\n/m/1,10,11\n", "line 2: counts .* received: 11 and 10"),
        ("label_id,num_rated,num_true\n/m/1,10\n", "line 2: counts .* received: None and 10"),
        ("label_id,num_rated,num_true\n/m/none,10,8\n", "rates none of the 8 classes"),
        ("", "column `label_id` is missing"),
    ],
)
def test_an_invalid_label_quality_file_is_one_line(es, tmp_path, text, message):
    path = tmp_path / "quality.csv"
    path.write_text(text, encoding="utf-8")
    (result,) = read_results([es])
    with pytest.raises(ValueError, match=message) as error:
        read_label_quality(path, result)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="no such label quality file"):
        read_label_quality(tmp_path / "none.csv", result)


def assert_one_line(capsys, message):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err)
