"""Tests of runs on packs: what a run writes and prints, running it again, and invalid input in one line."""

import json
import re
import shutil

import h5py
import keras
import numpy as np
import pytest
from recipes.conftest import LAST_LINE, guess, read_error_line, train

from kerastag.__main__ import main
from kerastag.card import Card
from kerastag.data.feature_pack_writer import FeaturePackWriter
from kerastag.data.synthetic_features import make_synthetic_features, write_synthetic_packs
from kerastag.metrics import compute_metrics


def test_a_run_writes_its_configuration_versions_and_metrics(finished, packs):
    config = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    assert (config["format"], config["system"], config["steps"], config["units"]) == (1, "decision_attention", 6, 4)
    assert {"kerastag", "python", "keras", "numpy", "machine"} <= json.loads(
        (finished / "versions.json").read_text(encoding="utf-8")
    ).keys()
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    with h5py.File(packs / "bal_train.h5") as train_pack, h5py.File(packs / "eval.h5") as eval_pack:
        counts = {"bal_train": train_pack["y"][:].sum(axis=0), "eval": eval_pack["y"][:].sum(axis=0)}
    assert {name: list(c) for name, c in counts.items()} == metrics["class_counts"]
    assert sum(metrics["labels_per_clip"]["eval"].values()) == 40
    assert metrics["labels"]["names"] == ["Sound 01", "Sound 02", "Sound 03", "Sound 04"]
    assert metrics["checkpoint_steps"] == [1, 6]
    assert metrics["train"]["num_clips"] == 80
    card = Card.read(finished / "model.keras")
    assert card.labels.names == tuple(metrics["labels"]["names"])
    assert (card.seconds_per_frame, card.window_seconds) == (1.0, 10.0)
    assert (finished / "classes.csv").read_text(encoding="utf-8").count("\n") == 5
    assert (finished / "table.md").read_text(encoding="utf-8").count(f"{metrics['ensemble']['map']:.4f}")


def test_the_saved_model_has_the_metrics_of_the_last_checkpoint(finished, packs):
    clips = make_synthetic_features(40, num_classes=4, num_features=6, split="eval")
    x = (clips.x.astype(np.float32) - 128) / 128
    x[np.arange(10) >= clips.num_segments[:, None]] = 0
    model = keras.saving.load_model(finished / "model.keras", compile=False)
    metrics = compute_metrics(clips.targets, np.asarray(model.predict_on_batch(x)["clipwise"]))
    last = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))["last"]
    assert metrics.map == pytest.approx(last["map"], abs=1e-6)
    assert metrics.mauc == pytest.approx(last["mauc"], abs=1e-6)


def test_a_finished_run_shows_its_metrics_again_and_changes_nothing(run, packs, capsys):
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()}
    content = (run / "metrics.json").read_bytes()
    # Paths and intervals may change, and the packs need not exist.
    assert train("gone", run, "--save-every", 3, "--in-memory", "false") == 0
    out, err = capsys.readouterr()
    assert "already finished" in err
    assert LAST_LINE.fullmatch(out.splitlines()[-1])
    assert f"mAP {json.loads(content)['ensemble']['map']:.4f}  " in out.splitlines()[-1]
    assert (run / "metrics.json").read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()} == before


def test_a_run_folder_with_another_configuration_names_the_field(run, packs, capsys):
    content = (run / "config.json").read_bytes()
    assert train(packs, run, "--learning-rate", 0.01) == 1
    line = read_error_line(capsys)
    assert str(run) in line
    assert "`learning_rate` was 0.001; received: 0.01" in line
    assert guess(packs, run) == 1
    assert "holds a run with another configuration" in read_error_line(capsys)
    assert (run / "config.json").read_bytes() == content


def test_a_folder_with_other_files_is_left_unchanged(packs, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    assert guess(packs, tmp_path) == 1
    assert "`run_dir` must be a run folder or an empty folder" in read_error_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    assert guess(packs, tmp_path / "empty") == 0
    assert LAST_LINE.fullmatch(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_damaged_file_of_a_run_is_named(run, packs, capsys, name):
    path = run / name
    path.write_text(path.read_text(encoding="utf-8")[:20], encoding="utf-8")
    assert train(packs, run) == 1
    line = read_error_line(capsys)
    assert str(path) in line
    assert "not a JSON file" in line


def change_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda c: c.clear(), "config.json: `system` must name a recipe; received: None"),
        ("config.json", lambda c: c.update(system=["x"]), "config.json: `system` must name a recipe"),
        ("config.json", lambda c: c.update(system="_run"), "`system` must be the name of a recipe; received: '_run'"),
        ("config.json", lambda c: c.update(format="x"), "config.json: `format` must be at most 1; received: 'x'"),
        ("config.json", lambda c: c.update(format=[]), "config.json: `format` must be at most 1"),
        ("config.json", lambda c: c.update(steps="x"), "config.json: .*steps"),
        ("config.json", lambda c: c.update(steps=-1), "config.json: `steps` must be at least 1; received: -1"),
        ("config.json", lambda c: c.update(train_packs=None), "config.json: .*train_packs"),
        ("config.json", lambda c: c.update(train_packs=[{}]), "config.json: .*train_packs"),
        ("config.json", lambda c: c.update(hold_out=[]), "config.json: .*hold_out"),
        ("metrics.json", lambda m: m.clear(), "metrics.json: key `ensemble.map` is missing"),
        ("metrics.json", lambda m: m.update(ensemble=None), "metrics.json: `ensemble` must be a dictionary"),
        (
            "metrics.json",
            lambda m: m["ensemble"].update(map="x"),
            "metrics.json: `ensemble.map` must be .*number.*: 'x'",
        ),
    ],
)
def test_a_damaged_run_is_one_line_when_it_is_evaluated(run, capsys, name, change, message):
    change_json(run / name, change)
    assert main(["evaluate", str(run)]) == 1
    line = read_error_line(capsys)
    assert re.search(message, line)
    assert str(run) in line


@pytest.mark.parametrize("text", ["[]", "null", "5", "{", "\x00", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_a_file_of_a_run_that_is_not_an_object_is_one_line(run, capsys, name, text):
    (run / name).write_text(text, encoding="utf-8")
    for arguments in (["evaluate", run], ["tables", run, "--output", run / "tables"]):
        assert main(list(map(str, arguments))) == 1
        assert str(run / name) in read_error_line(capsys)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_damaged_weights_of_a_run_are_one_line(run, capsys, content):
    checkpoint = next((run / "checkpoints").iterdir())
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(content)
    assert main(["evaluate", str(run)]) == 1
    assert f"{checkpoint}: must be the weights of this model; received: " in capsys.readouterr().err
    checkpoint.write_bytes(whole)
    (run / "model.keras").write_bytes(content)
    assert main(["evaluate", str(run)]) == 1
    assert f"{run / 'model.keras'}: must be a Keras model; received: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("evaluated"), "metrics.json: key 'evaluated' is missing"),
        (lambda m: m["ensemble"].pop("auc"), "metrics.json: `values` must have the key `auc`"),
        (lambda m: m.update(last=5), "metrics.json: `last` must be a dictionary; received: 5"),
        (lambda m: m["labels"].update(names="ab"), "metrics.json: `labels.names` must be a list; received: 'ab'"),
    ],
)
def test_damaged_metrics_are_one_line_when_a_finished_run_is_shown_again(run, packs, capsys, change, message):
    change_json(run / "metrics.json", change)
    assert train(packs, run) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_damaged_state_is_named(run, packs, capsys):
    (run / "metrics.json").unlink()
    state = run / "state.npz"
    state.write_bytes(state.read_bytes()[:500])
    assert train(packs, run) == 1
    assert f"{state}: not a complete .npz file" in read_error_line(capsys)


def test_missing_packs_and_empty_folders_are_named(packs, tmp_path, capsys):
    assert guess(tmp_path / "nowhere", tmp_path / "a") == 1
    assert f"{tmp_path / 'nowhere'}: no bal_train.h5 or unbal_train.h5" in read_error_line(capsys)
    (tmp_path / "empty").mkdir()
    assert guess(tmp_path / "empty", tmp_path / "b") == 1
    assert f"{tmp_path / 'empty'}: no bal_train.h5" in read_error_line(capsys)
    shutil.copy(packs / "bal_train.h5", tmp_path / "empty/bal_train.h5")
    assert guess(tmp_path / "empty", tmp_path / "c") == 1
    assert f"{tmp_path / 'empty/eval.h5'}: no such file" in read_error_line(capsys)
    (tmp_path / "empty/eval.h5").write_bytes((packs / "eval.h5").read_bytes()[:3000])
    assert guess(tmp_path / "empty", tmp_path / "d") == 1
    assert f"{tmp_path / 'empty/eval.h5'}: not an HDF5 file, truncated or damaged" in read_error_line(capsys)
    # After a failed start, the same command works once the packs exist.
    shutil.copy(packs / "eval.h5", tmp_path / "empty/eval.h5")
    assert guess(tmp_path / "empty", tmp_path / "d") == 0


def test_held_out_clips_replace_the_evaluation_pack(packs, tmp_path, capsys):
    (tmp_path / "packs").mkdir()
    shutil.copy(packs / "bal_train.h5", tmp_path / "packs/bal_train.h5")
    assert guess(tmp_path / "packs", tmp_path / "run", "--hold-out", 0.25) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert metrics["evaluated"] == "held out"
    assert metrics["ensemble"]["num_clips"] == pytest.approx(20, abs=3)
    assert "| held out | mAP" in capsys.readouterr().out


@pytest.fixture
def without_class_2(packs, tmp_path):
    folder = shutil.copytree(packs, tmp_path / "packs")
    with h5py.File(folder / "bal_train.h5", "r+") as file:
        targets = file["y"][:]
        targets[:, 2] = False
        file["y"][:] = targets
    return folder


def test_a_class_without_clips_is_one_line_and_is_skipped_on_request(without_class_2, tmp_path, capsys):
    assert train(without_class_2, tmp_path / "a") == 1
    line = read_error_line(capsys)
    assert "bal_train.h5: `targets` must have a clip of every class; 1 of 4 classes have none: Sound 03" in line
    assert "`skip_corrupt` trains without these classes" in line
    assert train(without_class_2, tmp_path / "b", "--skip-corrupt", "true") == 0
    out, err = capsys.readouterr()
    assert "skipped when balancing, no clips: Sound 03" in err
    assert LAST_LINE.fullmatch(out.splitlines()[-1])
    assert json.loads((tmp_path / "b/metrics.json").read_text(encoding="utf-8"))["class_counts"]["bal_train"][2] == 0


@pytest.fixture
def with_nan(packs, tmp_path):
    """Write the same clips into float packs, with NaN or infinity in three training clips."""
    for split, count in (("bal_train", 80), ("eval", 40)):
        clips = make_synthetic_features(count, num_classes=4, num_features=6, split=split)
        x = (clips.x.astype(np.float32) - 128) / 128
        if split == "bal_train":
            x[7, 0, 0], x[9, 0, 5], x[70, 0, 1] = np.nan, np.inf, -np.inf
        with FeaturePackWriter(
            tmp_path / f"packs/{split}.h5", num_classes=4, num_features=6, dtype="float32"
        ) as writer:
            writer.append(x, clips.num_segments, clips.targets, clips.ids)
            writer.finish()
    return tmp_path / "packs"


def test_nan_in_a_float_pack_is_one_line_and_is_skipped_on_request(with_nan, tmp_path, capsys):
    assert train(with_nan, tmp_path / "a") == 1
    line = read_error_line(capsys)
    assert f"{with_nan / 'bal_train.h5'}: key x, row 7: NaN or infinity (3 of 80 rows have one)" in line
    assert train(with_nan, tmp_path / "b", "--skip-corrupt", "true") == 0
    out, err = capsys.readouterr()
    assert f"{with_nan / 'bal_train.h5'}: skipped 3 clips with NaN or infinity, rows 7, 9, 70" in err
    assert LAST_LINE.fullmatch(out.splitlines()[-1])
    assert json.loads((tmp_path / "b/metrics.json").read_text(encoding="utf-8"))["train"]["num_clips"] == 77


def test_classes_without_positive_clips_have_no_metrics_and_are_named(packs, tmp_path, capsys):
    folder = shutil.copytree(packs, tmp_path / "packs")
    with h5py.File(folder / "eval.h5", "r+") as file:
        targets = file["y"][:]
        targets[:, 1] = False
        file["y"][:] = targets
    assert guess(folder, tmp_path / "run") == 0
    assert "classes without metrics, no positive clip in eval: Sound 02" in capsys.readouterr().err
    assert (
        json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))["ensemble"]["average_precision"][1]
        is None
    )


def test_several_training_packs_are_concatenated(packs, tmp_path):
    folder = shutil.copytree(packs, tmp_path / "packs")
    shutil.copy(folder / "bal_train.h5", folder / "unbal_train.h5")
    assert train(folder, tmp_path / "run", "--precision", "mixed_bfloat16", "--mixup", 0.5, "--ema", 0.9) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert metrics["train"]["num_clips"] == 160
    assert set(metrics["class_counts"]) == {"bal_train", "unbal_train", "eval"}


def test_a_random_guess_has_the_metrics_of_chance(packs, tmp_path, capsys):
    write_synthetic_packs(tmp_path / "packs", num_train=10, num_eval=4000, num_classes=4, num_features=2)
    assert guess(tmp_path / "packs", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    prior = np.array(metrics["class_counts"]["eval"]) / 4000
    assert metrics["ensemble"]["mauc"] == pytest.approx(0.5, abs=0.02)
    assert metrics["ensemble"]["map"] == pytest.approx(prior.mean(), abs=0.02)
    assert metrics["ensemble"]["d_prime"] == pytest.approx(0, abs=0.07)
