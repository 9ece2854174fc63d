"""From flags and TOML to settings, and from any error to one line and a status."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from checks import run_python
from kerastag.recipes import feature_attention
from kerastag.recipes._command import command, parse


@dataclass(kw_only=True)
class Settings:
    """Settings of a command that exists in this test alone.

    Args:
        data_dir: where the clips are.
        steps: how many.
        batch_size: how many at a time.
        warmup_steps: of the steps.
        rate: how fast.
        names: what to read.
        phi: which function.
    """

    data_dir: str | None = None
    steps: int = 1000
    batch_size: int = 500
    warmup_steps: int = 0
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    phi: Literal["relu", "exp"] = "relu"

    def __post_init__(self) -> None:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"`warmup_steps` must be below `steps`, received {self.warmup_steps}")


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def run(argv, work=lambda settings: None):
    """What the command was given to work on, and its status."""
    got = []
    status = command(Settings, lambda settings: (got.append(settings), work(settings)), "nothing", argv)
    return (got[0] if got else None), status


def one_line_of(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nothing: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_flags_override_the_toml_which_overrides_the_defaults(toml):
    path = toml('steps = 7\nrate = 2\nnames = ["c"]\n')
    expected = Settings(steps=8, rate=2.0, names=("c",), phi="exp")
    for given in (["--config", path], [f"--config={path}"]):
        assert run([*given, "--steps", "8", "--phi", "exp"]) == (expected, 0)
        assert run(["--steps=8", "--phi=exp", *given])[0].phi == "exp"
    assert run([]) == (Settings(), 0)
    assert isinstance(run(["--config", path])[0].names, tuple)


def test_a_list_is_given_as_a_flag_too():
    assert run(["--names", '["x", "y"]'])[0].names == ("x", "y")


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
def test_a_wrong_toml_is_one_line_with_its_file_and_key(toml, capsys, text, names):
    path = toml(text)
    assert run(["--config", path]) == (None, 1)
    line = one_line_of(capsys)
    assert path in line
    assert names in line.replace(path, "")


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["--stepps", "3"], "--stepps"),
        (["--steps", "many"], "steps"),
        (["--phi", "tanh"], "phi"),
        (["--config", "no_such_recipe"], "no_such_recipe"),
        (["--config", "not/there.toml"], "not/there.toml"),
        (["--config"], "config"),
        (["stray"], "stray"),
        (["--warmup_steps", "1000"], "`warmup_steps` must be below `steps`, received 1000"),
    ],
)
def test_a_wrong_flag_is_one_line(capsys, argv, names):
    assert run(argv) == (None, 1)
    assert names in one_line_of(capsys)


@pytest.mark.parametrize(
    "error", [ValueError("`a`\n  is wrong"), FileNotFoundError("b"), OSError(28, "no space"), FloatingPointError("nan")]
)
def test_an_error_of_the_work_is_one_line_and_a_traceback_on_demand(capsys, error):
    def fail(settings):
        raise error

    assert run([], fail)[1] == 1
    assert " ".join(str(error).split()) in one_line_of(capsys)
    with pytest.raises(type(error)):
        run(["--debug"], fail)


def test_a_mistake_in_the_program_is_not_hidden():
    def fail(settings):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run([], fail)


def test_an_interruption_says_how_to_go_on(capsys):
    def fail(settings):
        raise KeyboardInterrupt

    assert run([], fail)[1] == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_smoke_cuts_any_settings_to_three_small_steps(toml):
    settings, status = run(["--config", toml("steps = 90\nwarmup_steps = 30\nrate = 2\n"), "--smoke"])
    assert status == 0
    assert settings == Settings(steps=3, batch_size=8, warmup_steps=0, rate=2.0)


@dataclass(kw_only=True)
class Placed:
    """Settings of a run that has a folder.

    Args:
        run_dir: folder of the run.
        steps: mini-batches.
    """

    run_dir: str | None = None
    steps: int = 50


def test_smoke_has_a_folder_of_its_own_begun_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []

    def work(settings):
        made.append(Path(settings.run_dir))
        made[-1].mkdir(parents=True)
        (made[-1] / "metrics.json").touch()

    for _ in range(2):  # the second finds nothing of the first
        assert command(Placed, work, "nothing", ["--smoke"]) == 0
    assert made == [Path("runs/nothing/smoke")] * 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kept").touch()
    assert command(Placed, lambda s: made.append(Path(s.run_dir)), "nothing", ["--smoke", "--run_dir", "mine"]) == 0
    assert made[-1] == Path("mine")
    assert (tmp_path / "mine/kept").exists()


def test_help_says_what_every_setting_does(capsys):
    with pytest.raises(SystemExit) as ended:
        run(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for line in Settings.__doc__.splitlines()[3:]:
        if line.strip():
            name, what = line.strip().rstrip(".").split(": ")
            assert f"--{name}" in text
            assert what in text
    assert "--smoke" in text
    assert "exists in this test alone" not in text or "python -m kerastag.recipes.nothing" in text


def test_print_config_shows_what_a_run_would_use_and_is_read_back(toml, capsys):
    with pytest.raises(SystemExit) as ended:
        run(["--config", toml("steps = 7\n"), "--rate", "0.25", "--print_config"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert run(["--config", toml(printed)]) == (Settings(steps=7, rate=0.25), 0)


def test_without_data_a_recipe_reads_its_synthetic_toml():
    synthetic = parse(feature_attention.Settings, "feature_attention", [])
    assert synthetic.units < feature_attention.Settings().units
    assert synthetic.steps < 2000
    published = feature_attention.Settings
    assert parse(published, "feature_attention", ["--data_dir", "x"]) == published(data_dir="x")
    assert parse(published, "feature_attention", ["--data_dir=x"]) == published(data_dir="x")
    assert parse(published, "feature_attention", ["--steps", "9"]).steps == 9
    assert parse(published, "feature_attention", ["--config", "feature_attention"]) == published()


def test_a_real_command_ends_with_one_line_and_status_one(tmp_path):
    run = str(tmp_path / "run")
    code = f"""
import subprocess, sys
done = subprocess.run(
    [sys.executable, "-m", "kerastag.recipes.random_guess", "--data_dir", "nowhere", "--run_dir", {run!r}],
    capture_output=True, text=True)
print(done.returncode, repr(done.stdout), repr(done.stderr))
"""
    said = run_python(code)
    assert said.startswith("1 '' 'random_guess: error: nowhere: no bal_train.h5 or unbal_train.h5; "), said
    assert said.count("\\n") == 1


def test_the_modules_docstring_is_the_commands_description(capsys):
    with pytest.raises(SystemExit):
        command(feature_attention.Settings, print, "feature_attention", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "python -m kerastag.recipes.feature_attention" in text
    assert " ".join(sys.modules[feature_attention.__name__].__doc__.split())[:60] in text
