"""Tests of resuming with real processes: after `kill -9` at any moment, the same command gives the same run."""

import csv
import json
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest
from training.killed_runs import Kill, start

from checks import ROOT
from kerastag.data.synthetic_features import write_synthetic_packs

PLAIN = """
steps = 60
save_every = 7
batch_size = 16
units = 4
depth = 1
checkpoints = 3
evaluate_every = 15
"""
EVERYTHING = (
    PLAIN
    + """
mixup = 0.5
ema = 0.9
schedule = "cosine"
warmup_steps = 5
weight_decay = 0.01
label_smoothing = 0.05
balance = 0.7
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    write_synthetic_packs(folder / "packs", num_train=80, num_eval=30, num_classes=4, num_features=6)
    (folder / "plain.toml").write_text(PLAIN, encoding="utf-8")
    (folder / "everything.toml").write_text(EVERYTHING, encoding="utf-8")
    return folder


def arguments(folder, config, run):
    packs = str(folder / "packs")
    return ["--config", str(folder / f"{config}.toml"), "--data_dir", packs, "--run_dir", str(folder / run)]


def finish(folder, config, run):
    """Run to the end and return the output."""
    output = folder / f"{run}.txt"
    process = start(arguments(folder, config, run), output)
    process.join(300)
    assert process.exitcode == 0, output.read_text(encoding="utf-8")
    assert (folder / run / "metrics.json").exists()
    return output.read_text(encoding="utf-8")


def finish_in_new_process(folder, config, run):
    """Run to the end as a user would, in a new process with its own hash seed."""
    command = [sys.executable, "-m", "kerastag.recipes.feature_attention", *arguments(folder, config, run)]
    result = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout + result.stderr


def kill_at(folder, config, run, name, count, before):
    output = folder / f"{run}.txt"
    process = start(arguments(folder, config, run), output, Kill(name, count, before))
    process.join(300)
    assert process.exitcode == -signal.SIGKILL, output.read_text(encoding="utf-8")
    assert not (folder / run / "metrics.json").exists()


def saved_step(run):
    with np.load(run / "state.npz") as arrays:
        return json.loads(str(arrays["progress"]))["step"]


def check_same_run(one, other):
    """Compare the weights, optimizer, random states, checkpoints, metrics and log of two runs."""
    with np.load(one / "state.npz") as a, np.load(other / "state.npz") as b:
        assert a.files == b.files
        assert len(a.files) > 20
        for key in set(a.files) - {"progress"}:
            np.testing.assert_array_equal(a[key], b[key])
    checkpoints = sorted(path.name for path in (one / "checkpoints").glob("step_*"))
    assert len(checkpoints) == 3
    for name in checkpoints:
        check_same_weights(one / "checkpoints" / name, other / "checkpoints" / name)
    for run in (one, other):
        with zipfile.ZipFile(run / "model.keras") as archive:
            (run / "model.weights.h5").write_bytes(archive.read("model.weights.h5"))
    check_same_weights(one / "model.weights.h5", other / "model.weights.h5")
    metrics = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in (one, other)]
    for values in metrics:
        del values["seconds"]
    assert metrics[0] == metrics[1]
    logs = [list(csv.DictReader((run / "log.csv").read_text(encoding="utf-8").splitlines())) for run in (one, other)]
    steps = [int(row["step"]) for row in logs[0]]
    assert steps == [12, 15, 30, 36, 45, 60]
    for column in ("step", "mAP", "mAUC", "d_prime", "ensemble_mAP", "checkpoints"):
        assert [row[column] for row in logs[0]] == [row[column] for row in logs[1]]
    losses = [[float(row["loss"]) for row in log] for log in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # Keras sums the losses of each process in float32


def check_same_weights(one, other):
    def arrays(path):
        values = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: values.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
            )
        return values

    first, second = arrays(one), arrays(other)
    assert first.keys() == second.keys()
    assert first
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.slow
def test_a_run_killed_while_saving_or_between_checkpoint_and_state_is_resumed(folder):
    """It uses mixup, averaged weights, warm-up, weight decay, label smoothing, partial balancing and a teacher."""
    finish(folder, "plain", "teacher")
    with (folder / "everything.toml").open("a", encoding="utf-8") as file:
        file.write(f'teachers = ["{(folder / "teacher").as_posix()}"]\nteacher_batches = 10\n')
    kill_at(folder, "everything", "killed", "state.npz", 4, before=True)  # while the state of step 28 is written
    assert saved_step(folder / "killed") == 21
    assert list((folder / "killed").glob(".*.state.npz"))
    # Step 36 is a checkpoint whose row of the log is not yet written; the state is that of step 35.
    kill_at(folder, "everything", "killed", "step_000036.weights.h5", 1, before=False)
    assert saved_step(folder / "killed") == 35
    assert (folder / "killed/checkpoints/step_000036.weights.h5").exists()
    assert "resumed at step 35 of 60" in finish(folder, "everything", "killed")
    assert not list((folder / "killed").rglob(".*.npz")), "temporary files of the killed process are left"
    finish_in_new_process(folder, "everything", "whole")
    check_same_run(folder / "killed", folder / "whole")


def test_a_run_killed_from_outside_at_any_moment_is_resumed(folder):
    run = folder / "killed_outside"
    process = start(arguments(folder, "plain", "killed_outside"), folder / "killed_outside.txt")
    while process.exitcode is None and not ((run / "state.npz").exists() and saved_step(run) >= 14):
        time.sleep(0.002)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (run / "metrics.json").exists()
    step = saved_step(run)
    assert f"resumed at step {step} of 60" in finish(folder, "plain", "killed_outside")
    finish(folder, "plain", "whole_plain")
    check_same_run(run, folder / "whole_plain")
