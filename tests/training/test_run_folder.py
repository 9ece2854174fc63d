"""Tests of the run folder: what it holds, when it is the same run, and folders of the format before version 0.1."""

import json
import os

import pytest

from kerastag.training.config import TrainingConfig
from kerastag.training.run_folder import BASELINE, FORMAT, RunFolder


def test_a_new_folder_states_its_format_and_the_configuration(tmp_path):
    folder = RunFolder.create(tmp_path / "run", "es_min", TrainingConfig(steps=7))
    content = json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))
    assert (content["format"], content["system"], content["steps"]) == (FORMAT, "es_min", 7)
    assert content["train_packs"] == ["bal_train", "unbal_train"]
    assert {"kerastag", "python", "machine", "numpy"} <= json.loads(
        (tmp_path / "run/versions.json").read_text(encoding="utf-8")
    ).keys()
    opened = RunFolder.open(tmp_path / "run")
    assert (opened.system, opened.config) == (folder.system, folder.config)
    assert not opened.is_finished


def test_the_same_run_may_move_and_be_saved_more_often(tmp_path):
    RunFolder.create(tmp_path, "es_min", TrainingConfig(data_dir="a"))
    RunFolder.create(tmp_path, "es_min", TrainingConfig(data_dir="b", save_every=3, evaluate_every=9, in_memory=False))
    assert RunFolder.open(tmp_path).config["data_dir"] == "b"


def test_a_baseline_has_the_synthetic_packs_of_the_run_that_it_belongs_to(tmp_path):
    run = RunFolder.create(tmp_path / "run", "es_min", TrainingConfig())
    baseline = RunFolder.create(run.subfolder(BASELINE), "es_average", TrainingConfig())
    assert run.synthetic_data_dir == baseline.synthetic_data_dir == tmp_path / "run/synthetic"
    for path in (tmp_path / BASELINE, tmp_path / "run/other"):
        assert RunFolder.create(path, "es_min", TrainingConfig()).synthetic_data_dir == path / "synthetic"


def test_another_configuration_or_system_is_rejected_by_name(tmp_path):
    RunFolder.create(tmp_path, "es_min", TrainingConfig())
    with pytest.raises(ValueError, match=r"another configuration: `seed` was 0; received: 1; choose another `run_dir`"):
        RunFolder.create(tmp_path, "es_min", TrainingConfig(seed=1))
    with pytest.raises(ValueError, match=r"`system` was 'es_min'; received: 'es_max'"):
        RunFolder.create(tmp_path, "es_max", TrainingConfig())


def test_a_field_that_an_earlier_version_lacked_had_its_default(tmp_path):
    RunFolder.create(tmp_path, "es_min", TrainingConfig())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del config["seed"], config["train_packs"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="`seed` was 0; received: 1"):
        RunFolder.create(tmp_path, "es_min", TrainingConfig(seed=1))
    assert RunFolder.create(tmp_path, "es_min", TrainingConfig()).config["seed"] == 0


def test_a_folder_with_other_files_is_left_unchanged(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match="`run_dir` must be a run folder or an empty folder; it holds other files"):
        RunFolder.create(tmp_path, "es_min", TrainingConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_killed_while_its_first_file_was_written_starts_again(tmp_path):
    (tmp_path / ".4194305.config.json").write_text('{"half', encoding="utf-8")  # no process has this number
    RunFolder.create(tmp_path, "es_min", TrainingConfig())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "versions.json"]


@pytest.mark.parametrize(
    "name",
    [f".{os.getpid()}.config.json", ".config.json.lock", f".{os.getppid()}-files.model"],
    ids=["file of this process", "lock", "folder of a running process"],
)
def test_a_folder_with_temporary_files_alone_is_empty(tmp_path, name):
    (tmp_path / name).write_text("half", encoding="utf-8")
    assert not RunFolder.create(tmp_path, "es_min", TrainingConfig()).is_finished


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    folder = RunFolder.create(tmp_path / "run", "es_min", TrainingConfig())
    message = rf"run/config\.json: is being written by process {os.getpid()}"
    with folder.lock(), pytest.raises(BlockingIOError, match=message), RunFolder.open(tmp_path / "run").lock():
        pass
    with folder.lock():
        pass
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.json", "versions.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config.json: not a JSON file"),
        ("[]", r"config.json: must contain a JSON object; received: list"),
        ('{"format": 2, "system": "es_min"}', r"config.json: `format` must be at most 1; received: 2; update kerastag"),
        ('{"format": 1, "system": 3}', r"config.json: `system` must name a recipe; received: 3"),
    ],
)
def test_a_damaged_configuration_names_the_file(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        RunFolder.open(tmp_path)


def test_other_folders_are_not_run_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a run folder \(no config.json\)"):
        RunFolder.open(tmp_path)
    folder = RunFolder.create(tmp_path / "run", "es_min", TrainingConfig())
    with pytest.raises(FileNotFoundError, match=r"not a finished run \(no metrics.json\)"):
        folder.metrics()


def write_old_run(path, system="feature_attention", **config):
    """Write the files of a finished run as the version before 0.1 did."""
    config = {"system": system, "normalise_input": True, "units": 4, "train_packs": ["bal_train"], **config}
    (path / "settings.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "versions.json").write_text(json.dumps({"keras": "3.15.1"}), encoding="utf-8")
    labels = {"mids": ["/m/a", "/m/b"], "names": ["Bark", "Rain"]}
    localization = {"all": {"centre": 0.5, "centre_chance": 0.3}}
    (path / "metrics.json").write_text(json.dumps({"labels": labels, "localisation": localization}), encoding="utf-8")


def test_a_run_of_the_format_before_has_todays_names(tmp_path):
    write_old_run(tmp_path, "bag_neighbours", method="neighbours", num_clips=3, clip_seconds=2.0)
    folder = RunFolder.open(tmp_path)
    assert folder.system == "bag_neighbors"
    assert folder.config["method"] == "neighbors"
    assert (folder.config["num_sub_clips"], folder.config["sub_clip_seconds"]) == (3, 2.0)
    assert folder.config["normalize_input"] is True
    assert "localization" in folder.metrics()
    assert folder.is_finished


def test_a_run_of_the_format_before_without_a_card_gets_one(tmp_path):
    from zipfile import ZipFile

    write_old_run(tmp_path)
    with ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    card = RunFolder.open(tmp_path).card()
    assert card.labels.names == ("Bark", "Rain")
    assert (card.seconds_per_frame, card.window_seconds, card.sample_rate) == (1.0, 10.0, 16_000)
    assert card.origin == "feature_attention, trained by kerastag on bal_train"


def test_checkpoints_that_are_missing_are_counted(tmp_path):
    folder = RunFolder.create(tmp_path, "es_min", TrainingConfig())
    (tmp_path / "checkpoints").mkdir()
    folder.checkpoint_path(20).touch()
    folder.checkpoint_path(3).touch()
    assert [path.name for path in folder.checkpoint_paths(2)] == ["step_000003.weights.h5", "step_000020.weights.h5"]
    with pytest.raises(ValueError, match="an unfinished run: 2 of 9 checkpoints"):
        folder.checkpoint_paths(9)
