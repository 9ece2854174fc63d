"""Tests of the way from flags, rows and TOML overlays to a configuration."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from checks import run_python
from kerastag.recipes import cnn10, es_min, feature_attention, gl_at, mn, random_guess
from kerastag.recipes._configuration import parse_arguments
from kerastag.recipes._recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Config:
    """Configuration of a recipe that exists only in this test.

    Args:
        data_dir: Folder of the clips.
        run_dir: Folder of the run.
        steps: Number of mini-batches.
        batch_size: Clips in a mini-batch.
        warmup_steps: Steps of the warm-up.
        rate: Learning rate.
        names: Names of packs.
        phi: Name of a function.
        seed: Seed of the run.
    """

    data_dir: str | None = None
    run_dir: str | None = None
    steps: int = 1000
    batch_size: int = 500
    warmup_steps: int = 0
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    phi: Literal["relu", "exp"] = "relu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"`warmup_steps` must be below `steps`; received: {self.warmup_steps}")


@pytest.fixture
def write_toml(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def parse(argv):
    return parse_arguments(
        argv, name="nothing", kind="scores", description="A test.", config_class=Config, defaults={"batch_size": 400}
    )


def run(argv, work=lambda config: None):
    """Run the command of a recipe whose work is a function, and return its exit status."""
    recipe = Recipe("nothing", "A test.", "scores", Config, lambda recipe, config, folder: work(config))
    return recipe.main(argv)


def read_error_line(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kerastag train nothing: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_flags_override_overlays_which_override_the_defaults(write_toml):
    path = write_toml('steps = 7\nrate = 2\nnames = ["c"]\n')
    expected = Config(steps=8, batch_size=400, rate=2.0, names=("c",), phi="exp")
    for selection in (["--config", path], [f"--config={path}"]):
        assert parse([*selection, "--steps", "8", "--phi", "exp"]) == expected
        assert parse(["--steps=8", "--phi=exp", *selection]) == expected
    assert parse(["--data-dir", "x"]) == Config(data_dir="x", batch_size=400)
    assert isinstance(parse(["--config", path]).names, tuple)
    assert isinstance(parse(["--config", path]).rate, float)


def test_later_overlays_override_earlier_ones(write_toml):
    first, second = write_toml("steps = 7\nrate = 2\n", "first.toml"), write_toml("steps = 8\n", "second.toml")
    config = parse(["--config", first, "--config", second])
    assert (config.steps, config.rate) == (8, 2.0)


def test_a_table_of_an_overlay_applies_to_its_recipe_or_kind_only(write_toml):
    path = write_toml("steps = 7\n[embeddings]\nunits = 3\n[es_min]\ndepth = 2\n[scores]\nrate = 0.1\n")
    assert parse(["--config", path]) == Config(steps=7, batch_size=400, rate=0.1)
    config = es_min.RECIPE.parse(["--config", path])
    assert (config.steps, config.units, config.depth) == (7, 3, 2)
    only_embeddings = write_toml("[embeddings]\nunits = 3\n", "only.toml")
    with pytest.raises(ValueError, match=r"only.toml: has no values for nothing, only for embeddings"):
        parse(["--config", only_embeddings])


def test_options_are_spelled_with_hyphens_or_underscores():
    assert parse(["--batch-size", "3", "--warmup_steps=2"]) == Config(batch_size=3, warmup_steps=2)


def test_a_list_can_be_a_flag():
    assert parse(["--names", '["x", "y"]']).names == ("x", "y")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("step = 3\n", "step"),
        ('steps = "many"\n', "steps"),
        ("steps = 1.5\n", "steps"),
        ('phi = "tanh"\n', "phi"),
        ("names = 3\n", "names"),
        ("steps = = 3\n", "line 1"),
        ("[model]\nunits = 3\n", "model"),
    ],
)
def test_an_invalid_toml_file_is_one_line_with_its_path_and_key(write_toml, capsys, text, names):
    path = write_toml(text)
    assert run(["--config", path]) == 1
    line = read_error_line(capsys)
    assert path in line
    assert names in line.replace(path, "")


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["--stepps", "3"], "--stepps"),
        (["--steps", "many"], "steps"),
        (["--phi", "tanh"], "phi"),
        (["--config", "no_such_overlay"], "no_such_overlay"),
        (["--config", "not/there.toml"], "not/there.toml"),
        (["--config"], "config"),
        (["stray"], "stray"),
        (["--row", "units_2049"], "received: 'units_2049'; did you mean units_2048"),
        (["--row", "units_2048"], "must be a row of nothing; received: 'units_2048', a row of feature_attention"),
        (["--warmup-steps", "1000"], "`warmup_steps` must be below `steps`; received: 1000"),
    ],
)
def test_an_invalid_flag_is_one_line(capsys, argv, names):
    assert run(argv) == 1
    assert names in read_error_line(capsys)


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("`a`\n  is wrong"), FileNotFoundError("b"), OSError("no space"), FloatingPointError("nan")),
        KeyError("a bug"),
    ],
)
def test_an_error_is_one_line_and_a_traceback_with_debug(capsys, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fail(config):
        raise error

    assert run([], fail) == 1
    assert " ".join(str(error).split()) in read_error_line(capsys)
    with pytest.raises(type(error)):
        run(["--debug"], fail)


def test_an_interrupt_explains_how_to_resume(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def interrupt(config):
        raise KeyboardInterrupt

    assert run([], interrupt) == 130
    assert "repeat the command to resume the run" in capsys.readouterr().err


def test_smoke_shortens_any_configuration_to_three_small_steps(write_toml):
    config = parse(["--config", write_toml("steps = 90\nwarmup_steps = 30\nrate = 2\n"), "--smoke"])
    assert config == Config(steps=3, batch_size=8, warmup_steps=0, rate=2.0, run_dir="runs/nothing/smoke")


def test_smoke_runs_in_an_empty_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        path = Path(parse(["--smoke"]).run_dir)
        assert path == Path("runs/nothing/smoke")
        assert not path.exists()
        path.mkdir(parents=True)
        (path / "metrics.json").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    assert parse(["--smoke", "--run-dir", "mine"]).run_dir == "mine"
    assert (tmp_path / "mine/file").exists()


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit) as caught:
        run(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for line in Config.__doc__.splitlines()[3:]:
        if line.strip():
            name, description = line.strip().rstrip(".").split(": ")
            assert f"--{name.replace('_', '-')}" in text
            assert description in text
    for option in ("--smoke", "--row", "--config", "--debug"):
        assert option in text
    assert "kerastag train nothing" in text


def test_print_config_is_a_toml_file_of_the_configuration(write_toml, capsys):
    with pytest.raises(SystemExit) as caught:
        run(["--config", write_toml("steps = 7\n"), "--rate", "0.25", "--print-config"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert parse(["--config", write_toml(printed)]) == Config(steps=7, rate=0.25)


def test_without_data_a_recipe_uses_the_synthetic_overlay():
    recipe = feature_attention.RECIPE
    synthetic = recipe.parse([])
    assert synthetic.units < recipe.configure().units
    assert synthetic.steps < 2000
    assert recipe.parse(["--data-dir", "x"]) == recipe.configure(data_dir="x")
    assert recipe.parse(["--data_dir=x"]) == recipe.configure(data_dir="x")
    assert recipe.parse(["--steps", "9"]).steps == 9
    assert recipe.parse(["--row", "feature_attention"]) == recipe.configure()
    assert random_guess.RECIPE.parse([]) == random_guess.RECIPE.configure()
    assert random_guess.RECIPE.parse(["--config", "synthetic"]) == random_guess.RECIPE.configure()


def test_a_row_is_the_published_run_and_an_overlay_its_run_on_the_balanced_clips():
    recipe = feature_attention.RECIPE
    assert recipe.parse(["--row", "depth_6"]) == recipe.configure(depth=6)
    balanced = {"train_packs": ("bal_train",), "precision": "mixed_bfloat16"}
    assert recipe.parse(["--row", "depth_6", "--config", "balanced"]) == recipe.configure(
        depth=6, steps=2000, **balanced
    )
    assert recipe.parse(["--row", "best", "--config", "balanced"]) == recipe.configure(
        balance=0.0, mixup=1.0, phi="exp", learning_rate=4e-3, swa=True, steps=6000, **balanced
    )
    assert es_min.RECIPE.parse(["--config", "balanced"]).steps == 3600
    assert mn.RECIPE.parse(["--config", "balanced"]).width == 0.4
    assert cnn10.RECIPE.parse(["--config", "balanced"]).width == 0.25
    sub_clips = gl_at.RECIPE.parse(["--row", "gl_at_sub_clips_3", "--config", "balanced"])
    assert (sub_clips.num_sub_clips, sub_clips.width, sub_clips.steps) == (3, 0.25, 3000)
    pretrained = gl_at.RECIPE.parse(["--row", "gl_at_mn_pretrained", "--config", "balanced"])
    assert (pretrained.steps, pretrained.width, pretrained.learning_rate) == (1000, 0.4, 2e-4)


def test_a_command_ends_with_one_line_and_status_one(tmp_path):
    run_dir = str(tmp_path / "run")
    code = f"""
import subprocess, sys
result = subprocess.run(
    [sys.executable, "-m", "kerastag.recipes.random_guess", "--data-dir", "nowhere", "--run-dir", {run_dir!r}],
    capture_output=True, text=True)
print(result.returncode, repr(result.stdout), repr(result.stderr))
"""
    output = run_python(code)
    assert output.startswith("1 '' 'kerastag train random_guess: error: nowhere: no bal_train.h5 or unbal_train.h5; ")
    assert output.count("\\n") == 1


def test_the_docstring_of_the_module_is_the_description_of_the_command(capsys):
    with pytest.raises(SystemExit):
        feature_attention.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "kerastag train feature_attention" in text
    assert " ".join(sys.modules[feature_attention.__name__].__doc__.split())[:60] in text
