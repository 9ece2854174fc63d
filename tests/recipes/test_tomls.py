"""Every recipe can be asked, and every TOML that comes with kerastag runs: parsed, built, trained, measured."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import tomllib

import pytest

import kerastag.recipes
from kerastag._configs import find_config, list_configs
from kerastag.data.synthetic import write_synthetic_packs
from kerastag.recipes._command import parse
from kerastag.recipes._run import NetworkSettings
from kerastag.training.settings import RunSettings

PROGRAMS = {"tables", "evaluate"}  # what is asked about finished runs
RECIPES = sorted(
    m.name for m in pkgutil.iter_modules(kerastag.recipes.__path__) if m.name[0] != "_" and m.name not in PROGRAMS
)
LAST_LINE = re.compile(r"mAP 0\.\d{4}  mAUC 0\.\d{4}  d-prime -?\d+\.\d{3}")
NARROW = {"units": "4"}
NAMED_OTHERWISE = {"balanced_best": "feature_attention"}
# The same steps of the same model, whatever these say.
ASIDE = ("data_dir", "run_dir", "train_packs", "steps", "batch_size", "save_every", "learning_rate", "precision")


def recipe(name):
    return importlib.import_module(f"kerastag.recipes.{name}")


def recipe_of(toml):
    """`feature_attention_depth_3_balanced` belongs to the recipe whose name is its longest beginning."""
    return NAMED_OTHERWISE.get(toml) or max((name for name in RECIPES if f"{toml}_".startswith(f"{name}_")), key=len)


def settings_of(toml):
    name = recipe_of(toml)
    return parse(recipe(name).Settings, name, ["--config", toml])


def learns_from_embeddings(name):
    settings = recipe(name).Settings
    return issubclass(settings, NetworkSettings) or (
        issubclass(settings, RunSettings) and hasattr(recipe(name), "tag_and_measure")
    )


def test_the_recipes_of_paper_1_are_all_there():
    assert set(RECIPES) >= {
        *("random_guess", "google_baseline", "segment", "instance_max", "instance_average", "bag_neighbors"),
        *("es_average", "es_max", "es_min", "es_max_min", "jdc", "self_attention", "decision_attention"),
        *("multi_attention", "feature_average", "feature_max", "feature_attention"),
    }
    assert set(list_configs("recipes")) >= {name for name in RECIPES if learns_from_embeddings(name)}


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_is_explained_and_help_shows_it(name, capsys):
    settings = recipe(name).Settings
    explained = set()
    for kind in settings.__mro__[:-1]:
        explained |= set(re.findall(r"^        (\w+): ", inspect.cleandoc(f"x\n{kind.__doc__}") or "", re.M))
        explained |= set(re.findall(r"^    (\w+): ", inspect.cleandoc(kind.__doc__ or ""), re.M))
    fields = {field.name for field in dataclasses.fields(settings) if field.init}
    assert fields <= explained
    with pytest.raises(SystemExit) as ended:
        recipe(name).main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{field}" in text for field in fields)
    for flag in ("--config", "--smoke", "--debug"):
        assert flag in text


@pytest.mark.parametrize("name", RECIPES)
def test_print_config_is_a_toml_of_the_defaults(name, capsys):
    if not dataclasses.fields(recipe(name).Settings):
        pytest.skip("no settings")
    given = ["--data_dir", "x"] if "data_dir" in {f.name for f in dataclasses.fields(recipe(name).Settings)} else []
    with pytest.raises(SystemExit):
        recipe(name).main([*given, "--print_config"])
    printed = tomllib.loads(capsys.readouterr().out)
    for field in dataclasses.fields(recipe(name).Settings):
        if field.name in printed and not (given and field.name == "data_dir"):
            default = field.default
            assert printed[field.name] == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("toml", list_configs("recipes"))
def test_a_toml_belongs_to_a_recipe_and_says_only_what_differs(toml):
    settings = settings_of(toml)
    path = find_config("recipes", toml)
    assert path.read_text().startswith("# "), "its first line says what it reproduces"
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for key in tomllib.loads(path.read_text()):
        assert getattr(settings, key) != defaults[key], f"{key} is the default"


def group(toml):
    """What a cut, narrow run of this TOML depends on."""
    left_out = (*ASIDE, "evaluate_every", "checkpoints", *NARROW)
    values = {k: v for k, v in dataclasses.asdict(settings_of(toml)).items() if k not in left_out}
    return recipe_of(toml), repr(sorted(values.items()))


TOMLS = [toml for toml in list_configs("recipes") if learns_from_embeddings(recipe_of(toml))]
GROUPS: dict = {}
for found in TOMLS:
    GROUPS.setdefault(group(found), []).append(found)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_synthetic_packs(folder, num_train=90, num_eval=30, num_classes=4, num_features=6)
    return folder


def one_or_slow(tomls):
    """A TOML of feature-level attention is tried always, the others with what is slow."""
    marks = () if "feature_attention_synthetic" in tomls else pytest.mark.slow
    return pytest.param(tomls, marks=marks, id="+".join(tomls))


@pytest.mark.parametrize("tomls", [one_or_slow(tomls) for tomls in GROUPS.values()])
def test_a_toml_runs(tomls, packs, tmp_path, capsys):
    """Three steps of the first of those that differ in width, length, precision and learning rate alone."""
    name = recipe_of(tomls[0])
    fields = {field.name for field in dataclasses.fields(recipe(name).Settings)}
    narrow = [part for flag, value in NARROW.items() if flag in fields for part in (f"--{flag}", value)]
    if name == "bag_neighbors":  # as few neighbors and landmarks as the tiny set has clips
        narrow = ["--neighbors", "[1, 5]", "--landmarks", "20", "--components", "5"]
    run = tmp_path / "run"
    argv = ["--config", tomls[0], *narrow, "--data_dir", str(packs), "--run_dir", str(run), "--smoke"]
    assert recipe(name).main(argv) == 0, capsys.readouterr().err
    assert LAST_LINE.fullmatch(capsys.readouterr().out.splitlines()[-1])
    for file in ("settings.json", "versions.json", "metrics.json", "classes.csv", "table.md"):
        assert (run / file).is_file()


def test_smoke_builds_the_model_at_full_size(packs, tmp_path):
    run = tmp_path / "run"
    argv = ["--config", "feature_attention_balanced", "--data_dir", str(packs), "--run_dir", str(run), "--smoke"]
    assert recipe("feature_attention").main(argv) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    units, features, classes = 1024, 6, 4
    hidden = features * units + 2 * units * units + 3 * 4 * units
    attention = units * units + units * units + units
    assert metrics["parameters"] == 4 * features + hidden + attention + 4 * units + units * classes + classes
    assert metrics["checkpoint_steps"] == [1, 3]
