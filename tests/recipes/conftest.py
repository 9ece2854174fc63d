"""Small packs, and runs of recipes on them."""

import re
import shutil

import pytest

from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.recipes import decision_attention, random_guess

LAST_LINE = re.compile(r"mAP 0\.\d{4}  mAUC 0\.\d{4}  d-prime -?\d+\.\d{3}")
SMALL = ("--steps", "6", "--batch-size", "12", "--units", "4", "--depth", "1", "--checkpoints", "2")


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_synthetic_packs(folder, num_train=80, num_eval=40, num_classes=4, num_features=6)
    return folder


def train(data_dir, run_dir, *more):
    arguments = ["--data-dir", str(data_dir), "--run-dir", str(run_dir), *SMALL, *map(str, more)]
    return decision_attention.main(arguments)


@pytest.fixture(scope="module")
def finished(packs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train(packs, folder) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """Return a copy of a finished run, which a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


def guess(data_dir, run_dir, *more):
    """Run the recipe without a network, which shows quickly what is wrong with data and folders."""
    return random_guess.main(["--data-dir", str(data_dir), "--run-dir", str(run_dir), *map(str, more)])


def read_error_line(capsys):
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert "Traceback" not in captured.err
    assert ": error: " in lines[-1]
    assert LAST_LINE.search(captured.out) is None
    return lines[-1]
