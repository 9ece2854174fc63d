"""Tests of training by several processes, which here share one machine and talk over its loopback interface."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from checks import ROOT
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.training.config import TrainingConfig
from kerastag.training.distributed import BatchShare, find_group, share_batches

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the package jax (extra `jax`)")

CONFIG = """
steps = 25
batch_size = 16
units = 8
depth = 1
checkpoints = 3
swa = true
evaluate_every = 1
save_every = 7
mixup = 0.5
ema = 0.9
balance = 0.7
schedule = "cosine"
warmup_steps = 5
label_smoothing = 0.05
"""
# Without TensorFlow, which takes most of the time to import and only draws curves here.
RUN = """
import sys
sys.modules["tensorflow"] = None
from kerastag.recipes import feature_attention
sys.exit(feature_attention.main(sys.argv[1:]))
"""

STEP = """
import json, sys
sys.modules["tensorflow"] = None
import keras, numpy as np
from kerastag.training.config import TrainingConfig
from kerastag.training.devices import build_scope
from kerastag.training.distributed import join_processes, share_batches
from kerastag.training.optimization import compile_model
from kerastag.training.trainer import make_dataset

class Numbers:
    def batch(self, index):
        x = np.arange(32, dtype="float32").reshape(8, 4) ** 1.5 / 100
        return x, (np.arange(16).reshape(8, 2) % 2).astype("float32")

port, process_id, folder = sys.argv[1:]
several = {"coordinator": f"127.0.0.1:{port}", "num_processes": 2, "process_id": int(process_id)}
config = TrainingConfig(steps=1, batch_size=8, data_dir=folder, **several)
with join_processes(config, "a test"), build_scope(8):
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(2, activation="sigmoid", kernel_initializer=keras.initializers.Constant(0.1)),
    ])
    history = compile_model(model, config).fit(make_dataset(share_batches(Numbers()), 0, 1), verbose=0)
    averages = {name: np.array(getattr(model.layers[0], name)).tolist() for name in ("moving_mean", "moving_variance")}
print(json.dumps({**averages, "loss": history.history["loss"][0]}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    write_synthetic_packs(folder / "packs", num_train=80, num_eval=30, num_classes=4, num_features=6)
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


def find_port():
    """Find two free ports in a row."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except OSError:
                continue


def run_script(script, environment=None):
    """Start Python with a script and its arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", *script],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def start(folder, run, *more, num_processes=1, environment=None):
    """Start the processes of a run; `more` are further arguments of all of them, or a list for each."""
    port, processes = find_port(), []
    for process_id in range(num_processes):
        arguments = ["--config", str(folder / "config.toml"), "--data-dir", str(folder / "packs")]
        arguments += ["--run-dir", str(folder / run)]
        if num_processes > 1 and environment is None:
            arguments += ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(num_processes)]
            arguments += ["--process-id", str(process_id)]
        extra = more[process_id] if more and isinstance(more[0], list) else more
        variables = {name: value.format(process_id) for name, value in (environment or {}).items()}
        processes.append(run_script([RUN, *arguments, *extra], variables))
    return processes


def finish(processes, timeout=280):
    """Wait for processes and return the status, the output and the errors of each."""
    results = []
    for process in processes:
        output, errors = process.communicate(timeout=timeout)
        results.append((process.returncode, output, errors))
    return results


def finish_well(processes):
    results = finish(processes)
    assert [status for status, _, _ in results] == [0] * len(processes), results
    return results


def read_log(folder, run):
    with (folder / run / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_arrays(path):
    with np.load(path) as arrays:
        return {name: value for name, value in arrays.items() if name != "progress"}


def check_equal_runs(folder, run, reference, tolerance):
    """Check the loss of each evaluation, the mAP up to a few pairs of clips, and the last state with Adam's."""
    rows, expected = read_log(folder, run), read_log(folder, reference)
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    assert len(rows) >= 5
    for row, other in zip(rows, expected, strict=True):
        assert abs(float(row["loss"]) - float(other["loss"])) <= 1e-5, (row, other)
        assert abs(float(row["mAP"]) - float(other["mAP"])) <= 0.01
    assert abs(float(rows[-1]["ensemble_mAP"]) - float(expected[-1]["ensemble_mAP"])) <= 0.01
    state, other_state = (read_arrays(folder / name / "state.npz") for name in (run, reference))
    assert state.keys() == other_state.keys()
    for name, value in state.items():
        np.testing.assert_allclose(value, other_state[name], atol=tolerance, err_msg=name)


@needs_jax
def test_two_processes_take_a_step_on_the_whole_batch(folder):
    """The loss, and the statistics of batch normalization, are those of all rows: NumPy computes them here."""
    port = find_port()
    processes = [run_script([STEP, str(port), str(process_id), str(folder)]) for process_id in range(2)]
    steps = [json.loads(output.splitlines()[-1]) for _, output, _ in finish_well(processes)]
    assert steps[0] == steps[1]
    x, y = np.arange(32, dtype=np.float64).reshape(8, 4) ** 1.5 / 100, np.arange(16).reshape(8, 2) % 2
    np.testing.assert_allclose(steps[0]["moving_mean"], 0.01 * x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(steps[0]["moving_variance"], 0.99 + 0.01 * x.var(axis=0), rtol=1e-5)
    normalized = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3)
    probabilities = 1 / (1 + np.exp(-0.1 * normalized.sum(axis=1, keepdims=True)))
    loss = -(y * np.log(probabilities) + (1 - y) * np.log(1 - probabilities)).mean()
    assert abs(steps[0]["loss"] - loss) < 1e-5


@pytest.fixture(scope="module")
def whole(folder):
    """Name of a run of two processes, with the loss of each step, and what each of them printed."""
    return "whole", finish_well(start(folder, "whole", num_processes=2))


@needs_jax
@pytest.mark.slow
def test_several_processes_train_as_one(folder, whole):
    """The run has mixup, averaged weights, a warm-up, label smoothing and a partial balance."""
    run, results = whole
    finish_well(start(folder, "alone"))
    # Biases before a batch normalization have gradients of rounding errors alone, of which Adam makes steps of 1e-3.
    check_equal_runs(folder, run, "alone", 5e-3)
    first, *others = results
    assert "run folder:" in first[1]
    assert "step     25" in first[2]
    assert all("run folder" not in output and not errors for _, output, errors in others)


@needs_jax
@pytest.mark.slow
def test_the_end_of_one_process_ends_all_with_one_line_and_the_run_is_resumed(folder, whole):
    run, _ = whole
    for victim in (1, 0):
        kill_one(folder, "killed", victim)
    results = finish_well(start(folder, "killed", num_processes=2))
    assert "resumed at step" in results[0][2]
    check_equal_runs(folder, "killed", run, 0)


def kill_one(folder, run, victim):
    """Start two processes, kill one after the next state is saved, and check that the other ends."""
    state = folder / run / "state.npz"
    saved = state.stat().st_mtime_ns if state.exists() else 0
    processes = start(folder, run, num_processes=2)
    while not state.exists() or state.stat().st_mtime_ns == saved:
        assert processes[victim].poll() is None
        time.sleep(0.05)
    processes[victim].kill()
    killed = time.monotonic()
    results = finish(processes, timeout=30)
    assert time.monotonic() - killed < 20
    assert results[victim][0] == -signal.SIGKILL
    assert not (folder / run / "metrics.json").exists()
    status, _, errors = results[1 - victim]
    lines = [line for line in errors.splitlines() if "error" in line]
    # The coordinator of JAX ends with process 0, at which JAX itself may abort the others before they exit.
    if victim == 0 and any("JAX distributed service detected fatal errors" in line for line in lines):
        assert status in (1, -signal.SIGABRT)
        return
    assert status == 1
    assert lines == [
        f"kerastag train feature_attention: error: process {victim} of 2 has ended; "
        "repeat the command in all processes to resume the run"
    ]


@needs_jax
@pytest.mark.slow
def test_slurm_gives_the_address_and_the_numbers(folder):
    job = next(job for job in range(7, 2000) if _are_free(61_440 + job * 2))
    environment = {
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "{}",
        "SLURM_JOB_ID": str(job),
    }
    flags = ("--coordinator", "slurm", "--steps", "3", "--warmup-steps", "0")
    finish_well(start(folder, "slurm", *flags, num_processes=2, environment=environment))
    assert json.loads((folder / "slurm/metrics.json").read_text(encoding="utf-8"))["steps"] == 3


def _are_free(port):
    try:
        with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
            return True
    except OSError:
        return False


@needs_jax
def test_processes_with_different_configurations_are_refused_at_once(folder):
    """Before JAX is initialized, hence within seconds."""
    different = [["--units", "8"], ["--units", "16"]]
    for status, _, errors in finish(start(folder, "different", different[0], different[1], num_processes=2)):
        assert status == 1
        expected = "error: `units` must be 8 as in process 0; process 1 of 2 has 16"
        assert errors.strip().endswith(expected), errors
    assert not (folder / "different").exists()


@needs_jax
@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(folder):
    results = finish(start(folder, "odd", "--batch-size", "15", num_processes=2))
    lines = [errors.strip().splitlines()[-1] for _, _, errors in results]
    assert [status for status, _, _ in results] == [1, 1]
    assert any("`batch_size` must be a multiple of 2, the devices; received: 15" in line for line in lines), results


@needs_jax
@pytest.mark.slow
def test_a_run_folder_of_its_own_for_each_process_is_refused_on_resume(folder, whole):
    shutil.copytree(folder / whole[0], folder / "shared")
    (folder / "shared/metrics.json").unlink()
    other = [["--run-dir", str(folder / name)] for name in ("shared", "elsewhere")]
    results = finish(start(folder, "shared", *other, num_processes=2))
    assert [status for status, _, _ in results] == [1, 1]
    assert any("`run_dir` must be one folder for all processes" in errors for _, _, errors in results), results
    assert not (folder / "elsewhere").exists()


@needs_jax
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--coordinator", "gpu7"), "`coordinator` must be HOST:PORT or slurm; received: 'gpu7'"),
        (("--num-processes", "2"), "`coordinator` must be HOST:PORT or slurm where several processes train"),
        (("--process-id", "1"), "`process_id` must be below `num_processes`; received: 1"),
        (("--coordinator", "slurm"), "`coordinator` can be slurm only under `srun`: SLURM_STEP_NODELIST, SLURM_NTASKS"),
    ],
)
def test_wrong_flags_have_one_line(folder, capsys, monkeypatch, more, message):
    from kerastag.recipes import feature_attention

    for name in ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    packs = ["--data-dir", str(folder / "packs"), "--run-dir", str(folder / "wrong")]
    assert feature_attention.main([*packs, *more]) == 1
    assert message in capsys.readouterr().err


def test_several_processes_need_jax_and_packs(folder, capsys):
    import keras

    from kerastag.recipes import feature_attention

    several = ["--coordinator", "127.0.0.1:9", "--num-processes", "2", "--run-dir", str(folder / "wrong")]
    if keras.backend.backend() == "jax":
        assert feature_attention.main(several) == 1
        assert "`data_dir` must be a folder of packs where several processes train" in capsys.readouterr().err
    else:
        assert feature_attention.main([*several, "--data-dir", str(folder / "packs")]) == 1
        assert "`coordinator` needs KERAS_BACKEND=jax; received: 'tensorflow'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("node[07-09,12],login1", "node07"),
        ("gpu-a[3,5]", "gpu-a3"),
        ("10.0.0.4", "10.0.0.4"),
    ],
)
def test_the_first_node_of_slurm_is_the_coordinator(nodes, host):
    variables = {"SLURM_STEP_NODELIST": nodes, "SLURM_NTASKS": "8", "SLURM_PROCID": "3", "SLURM_JOB_ID": "4001"}
    group = find_group(TrainingConfig(coordinator="slurm"), variables)
    assert (group.host, group.num_processes, group.process_id) == (host, 8, 3)
    assert 1024 < group.port < 65_535


def test_an_address_of_ipv6_has_brackets():
    group = find_group(TrainingConfig(coordinator="[::1]:1234", num_processes=2, process_id=1))
    assert (group.host, group.port, group.num_processes, group.process_id) == ("::1", 1234, 2, 1)


def test_the_shares_of_a_batch_are_the_batch():
    class Numbers:
        def batch(self, index):
            return np.arange(12).reshape(6, 2) + index, np.arange(6)

    shares = [BatchShare(Numbers(), i, 3).batch(5) for i in range(3)]
    whole = Numbers().batch(5)
    for position in range(2):
        np.testing.assert_array_equal(np.concatenate([share[position] for share in shares]), whole[position])
    assert share_batches(Numbers()).batch(0)[0].shape == (6, 2)
