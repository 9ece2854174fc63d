"""From flags and TOML files to the configuration of a custom tagger."""

import tomllib

import pytest

from kerastag.custom import CustomConfig
from kerastag.custom.__main__ import parse_arguments


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "my.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_flags_override_toml_files_which_override_the_defaults(toml):
    path = toml('audio_dir = "sounds"\nsteps = 7\nseeds = [1, 2]\n')
    config = parse_arguments(["--config", path, "--steps", "9", "--fine_tune", "true"])
    assert config == CustomConfig(audio_dir="sounds", steps=9, seeds=(1, 2), fine_tune=True)


def test_options_are_spelled_with_hyphens_or_underscores():
    config = CustomConfig(audio_dir="sounds", batch_size=8)
    assert parse_arguments(["--audio-dir", "sounds", "--batch-size=8"]) == config
    assert parse_arguments(["--audio_dir", "sounds", "--batch_size=8"]) == config


def test_an_unknown_key_is_named_with_its_file(toml):
    with pytest.raises(ValueError, match=r"my\.toml: .*'segment'"):
        parse_arguments(["--audio-dir", "sounds", "--config", toml('segment = "seconds"\n')])


def test_print_config_prints_what_a_run_would_use(toml, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse_arguments(["--config", toml("steps = 7\n"), "--mixup", "0.5", "--print-config"])
    assert exit_info.value.code == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert (printed["steps"], printed["mixup"], printed["model"]) == (7, 0.5, "mn04_as")


def test_the_former_name_of_synthetic_background_is_accepted():
    config = CustomConfig(audio_dir="sounds", background="synthetic")
    assert CustomConfig(audio_dir="sounds", background="made_up") == config


def test_learn_takes_a_folder_or_a_list_and_prepares_the_tagger_for_a_device(tmp_path, toml):
    config = parse_arguments([str(tmp_path), "--folds", "3"], "learn")
    assert config == CustomConfig(audio_dir=str(tmp_path), folds=3, segments="frames", deploy=True)
    table = tmp_path / "list.csv"
    table.touch()
    config = parse_arguments(["--segments", "seconds", str(table)], "learn")
    assert (config.audio_dir, config.labels, config.segments) == (str(tmp_path), str(table), "seconds")
    path = toml('audio_dir = "sounds"\ndeploy = false\n')
    config = parse_arguments([str(table), "--config", path], "learn")
    assert (config.audio_dir, config.labels, config.deploy) == ("sounds", str(table), False)


def test_a_switch_needs_no_value(tmp_path):
    for flags in (["--keep-base"], ["--keep_base", "true"], ["--keep-base=true"], ["--keep-base", "--steps", "9"]):
        assert parse_arguments([str(tmp_path), *flags], "learn").keep_base
    config = parse_arguments(["--keep-base", str(tmp_path)], "learn")
    assert (config.keep_base, config.audio_dir) == (True, str(tmp_path))
    assert not parse_arguments([str(tmp_path), "--deploy", "false"], "learn").deploy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`recordings` must be a folder with one folder per class, or a table of labels; received: none"),
        (["/no/such"], "/no/such: no such folder or table of labels"),
        (["FOLDER", "--audio-dir", "x"], "`recordings` must be a table where --audio-dir is given; received: "),
        (["TABLE", "--labels", "x"], "`recordings` must be a folder where --labels is given; received: "),
        (["FOLDER", "FOLDER"], "unrecognized arguments"),
    ],
)
def test_wrong_recordings_of_learn_are_named(tmp_path, arguments, message):
    (tmp_path / "list.csv").touch()
    names = {"FOLDER": str(tmp_path), "TABLE": str(tmp_path / "list.csv")}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        parse_arguments([names.get(each, each) for each in arguments], "learn")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep_base": True, "fine_tune": True}, "`fine_tune` must be False with `keep_base`"),
        ({"audio_dir": ""}, "`audio_dir` must be a folder of recordings; received: ''"),
        ({"folds": 2}, "`folds` must be 0 or at least 3; received: 2"),
        ({"seeds": ()}, r"`seeds` must be at least one number, none negative; received: \(\)"),
        ({"seeds": (0, -1)}, "`seeds` must be at least one number"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0 and finite; received: 0.0"),
        ({"max_seconds": -1.0}, "`max_seconds` must be above 0"),
        ({"max_seconds": float("inf")}, "`max_seconds` must be above 0 and finite; received: inf"),
        ({"excerpts": "all"}, "`excerpts` must be cut, mask or whole; received: 'all'"),
        ({"channel": "third"}, "`channel` must be mean, left, right, loudest or a number"),
        ({"linear_similarity": 1.1}, r"`linear_similarity` must be in \[0, 1\]; received: 1.1"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"mixup": -0.1}, "`mixup` must be at least 0"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        ({"false_alarms_per_day": -1.0}, "`false_alarms_per_day` must be at least 0 and finite; received: -1.0"),
    ],
)
def test_a_value_out_of_range_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        CustomConfig(**{"audio_dir": "sounds", **values})
