"""Tests of the recipes and of the rows of the papers: every one can be configured, built, trained and evaluated."""

import dataclasses
import importlib
import inspect
import json
import math
import re
import tomllib

import pytest
from recipes.conftest import LAST_LINE

from checks import ROOT, SHARED
from kerastag._configs import find_config, list_configs
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.recipes._papers import PAPERS, format_rows, read_paper, recipe_names

NARROW = {"units": "4"}
# Fields that change neither the batches nor the model, except for its width.
IRRELEVANT = ("data_dir", "run_dir", "train_packs", "steps", "batch_size", "save_every", "learning_rate", "precision")


def find_recipe(name):
    return importlib.import_module(f"kerastag.recipes.{name}").RECIPE


ROWS = {name: row for paper in PAPERS for name, row in read_paper(paper).rows.items()}


def test_the_recipes_of_paper_1_exist():
    assert set(recipe_names()) >= {
        *("random_guess", "google_baseline", "segment", "instance_max", "instance_average", "bag_neighbors"),
        *("es_average", "es_max", "es_min", "es_max_min", "jdc", "self_attention", "decision_attention"),
        *("multi_attention", "feature_average", "feature_max", "feature_attention"),
    }
    assert {row.recipe for row in ROWS.values()} == set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_field_is_documented_and_shown_by_help(name, capsys):
    recipe = find_recipe(name)
    documented = set()
    for kind in recipe.config.__mro__[:-1]:
        documented |= set(re.findall(r"^    (\w+): [A-Z`]", inspect.cleandoc(kind.__doc__ or ""), re.M))
    fields = {field.name for field in dataclasses.fields(recipe.config) if field.init}
    assert fields <= documented
    with pytest.raises(SystemExit) as caught:
        recipe.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{field.replace('_', '-')}" in text for field in fields)


@pytest.mark.parametrize("name", recipe_names())
def test_print_config_is_a_toml_file_of_the_published_run(name, capsys):
    recipe = find_recipe(name)
    with pytest.raises(SystemExit):
        recipe.main(["--data-dir", "x", "--print-config"])
    printed = tomllib.loads(capsys.readouterr().out)
    for field in dataclasses.fields(recipe.config):
        if field.name in printed and field.name != "data_dir":
            default = recipe.defaults.get(field.name, field.default)
            assert printed[field.name] == (list(default) if isinstance(default, tuple) else default)


def test_there_are_few_toml_files_none_of_which_is_empty():
    names = list_configs("recipes")
    assert set(names) == {"balanced", "synthetic", "esc10", *PAPERS}
    for name in names:
        text = find_config("recipes", name).read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert tomllib.loads(text)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_lists_only_what_differs_from_its_recipe(row):
    recipe = find_recipe(row.recipe)
    defaults = {field.name: field.default for field in dataclasses.fields(recipe.config)} | dict(recipe.defaults)
    config = recipe.parse(["--row", row.name])
    for name, value in row.config.items():
        if name != "method":  # tells the two rows of one recipe apart
            assert getattr(config, name) != defaults[name], f"{name} = {value} is the default"
    assert config == recipe.configure(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.config.items()})


def test_every_row_stands_in_the_table_of_commands_and_in_the_documentation():
    table = format_rows()
    assert table in (ROOT / "docs/runs.md").read_text(encoding="utf-8")
    for name in ROWS:
        assert f"| kerastag train --row {name} |" in table
    assert "| kerastag train --row feature_attention | feature_attention |  | paper 1 | table IV, table V," in table


def identity(row):
    """Return what a short run of a narrow network of a row depends on."""
    skipped = (*IRRELEVANT, "evaluate_every", "checkpoints", *NARROW)
    config = find_recipe(row.recipe).parse(["--row", row.name, "--config", "balanced"])
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in skipped}
    if "depth" in values:  # The depths between the extremes repeat the same layers.
        values["depth"] = {0: "none", 10: "most"}.get(values["depth"], "some")
    return row.recipe, repr(sorted(values.items()))


GROUPS: dict = {}
for row in ROWS.values():
    if find_recipe(row.recipe).kind in ("embeddings", "scores"):
        GROUPS.setdefault(identity(row), []).append(row.name)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_synthetic_packs(folder, num_train=90, num_eval=30, num_classes=4, num_features=6)
    return folder


def mark_slow(names):
    """Mark all rows but feature-level attention as slow."""
    marks = () if "feature_attention" in names else pytest.mark.slow
    return pytest.param(names, marks=marks, id="+".join(names))


@pytest.mark.parametrize("names", [mark_slow(names) for names in GROUPS.values()])
def test_a_row_runs(names, packs, tmp_path, capsys):
    """Train one of the rows that differ only in width, depth, length, precision and learning rate, for three steps."""
    recipe = find_recipe(ROWS[names[0]].recipe)
    fields = {field.name for field in dataclasses.fields(recipe.config)}
    narrow = [part for name, value in NARROW.items() if name in fields for part in (f"--{name}", value)]
    if recipe.name == "bag_neighbors":  # as few neighbors and landmarks as the tiny packs have clips
        narrow = ["--neighbors", "[1, 5]", "--landmarks", "20", "--components", "5"]
    run = tmp_path / "run"
    arguments = ["--row", names[0], "--config", "balanced", *narrow, "--data-dir", str(packs), "--run-dir", str(run)]
    assert recipe.main([*arguments, "--smoke"]) == 0, capsys.readouterr().err
    assert LAST_LINE.fullmatch(capsys.readouterr().out.splitlines()[-1])
    for file in ("config.json", "versions.json", "metrics.json", "classes.csv", "table.md"):
        assert (run / file).is_file()


def test_smoke_builds_the_model_at_full_size(packs, tmp_path):
    run = tmp_path / "run"
    arguments = ["--config", "balanced", "--data-dir", str(packs), "--run-dir", str(run), "--smoke"]
    assert find_recipe("feature_attention").main(arguments) == 0
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    units, features, classes = 1024, 6, 4
    hidden = features * units + 2 * units * units + 3 * 4 * units
    attention = units * units + units * units + units
    assert metrics["parameters"] == 4 * features + hidden + attention + 4 * units + units * classes + classes
    assert metrics["checkpoint_steps"] == [1, 3]


def test_published_metrics_of_rows():
    assert ROWS["feature_attention"].published == (0.361, 0.969, 2.641)
    assert ROWS["phi_exp"].published == (0.358, 0.969, 2.631)
    assert ROWS["depth_10"].published == (0.331, 0.966, 2.579)
    assert ROWS["es_average"].published == (0.317, 0.963, 2.529)
    assert ROWS["gl_at_talnet"].published == (0.401, 0.970, 2.659)
    assert math.isnan(ROWS["gl_at_alone"].published.d_prime)
    assert ROWS["bag_neighbors"].published is None


@pytest.mark.real
def test_every_published_metric_stands_in_paper_1():
    path = SHARED / "papers" / "attention_neural_networks.txt"
    if not path.is_file():
        pytest.skip(f"{path}: no such file")
    text, paper = path.read_text(encoding="utf-8"), read_paper("paper1")
    for table in paper.tables:
        lines = text[text.index(f"{table.name.upper()}\n") :][:2200].splitlines()
        for entry in table.rows:
            if entry.row.published:
                cells = "{:.3f} {:.3f} {:.3f}".format(*entry.row.published)
                assert any(line.endswith(cells) for line in lines), (table.name, entry.label)
    block = text[text.index("TABLE III\n") :][:400]
    assert all(f"{r:.3f}" in block for r, _ in paper.correlations.values())


@pytest.mark.real
def test_every_published_metric_stands_in_paper_2():
    path = SHARED / "papers" / "global_local_attention.txt"
    if not path.is_file():
        pytest.skip(f"{path}: no such file")
    text, paper = path.read_text(encoding="utf-8"), read_paper("paper2")
    for row in paper.rows.values():
        if row.published:
            assert " ".join(f"{value:.3f}" for value in row.published if not math.isnan(value)) in text, row.name
