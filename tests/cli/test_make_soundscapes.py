"""`kerastag make-soundscapes`: what it writes, and its errors."""

import numpy as np
import pytest
import soundfile

from kerastag.__main__ import main
from kerastag.data.packs import AudioPack


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    for name in ("cat", "dog"):
        for fold in (1, 2):
            (root / name).mkdir(exist_ok=True)
            waveform = np.random.default_rng(fold).uniform(-0.3, 0.3, 8000)
            soundfile.write(root / name / f"{fold}-{name}-A.wav", waveform, 16_000)
    return root


def test_recordings_are_mixed_into_packs_and_event_tables(tree, tmp_path, capsys):
    arguments = ["--split", "bal_train=1", "--split", "eval=2", "--count", "eval=3", "4", "--sample-rate", "8000"]
    config = ["--scene_seconds", "1", "--max-events", "1", "--snr-db", "10", "20", "--seed", "7"]
    assert main(["make-soundscapes", "--audio-dir", str(tree), "--output", str(tmp_path), *arguments, *config]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"{tmp_path}/bal_train.h5: 4 soundscapes; {tmp_path}/bal_train.tsv: 4 events",
        f"{tmp_path}/eval.h5: 3 soundscapes; {tmp_path}/eval.tsv: 3 events",
    ]
    with AudioPack(tmp_path / "eval.h5") as pack:
        assert pack.x_shape == (3, 8000)
        assert pack.attributes["seed"] == 7
        assert "snr_db=(10.0, 20.0)" in pack.attributes["config"]


def test_synthetic_sounds_need_no_recordings(tmp_path, capsys):
    config = ["--soundscape-seconds", "1", "--sample-rate", "8000", "--count", "3", "--audio"]
    assert main(["make-soundscapes", "--synthetic", "--output", str(tmp_path), *config]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert len(list((tmp_path / "eval").glob("*.wav"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`audio_dir` or `synthetic` must be given, and not both"),
        (["--synthetic", "--audio-dir", "x"], "`audio_dir` or `synthetic` must be given, and not both"),
        (["--synthetic", "--split", "a=1"], "`split` must not be given with `synthetic`; received: ['a=1']"),
        (["--synthetic", "--count", "valid=3"], "`count` must be N or NAME=N with NAME one of bal_train, eval; rec"),
        (["--synthetic", "--count", "many"], "`count` must be N or NAME=N"),
        (
            ["--synthetic", "--snr-db", "9", "1"],
            "`snr_db` must be two sorted numbers in [-60, 60]; received: 9.0 and 1.0",
        ),
        (["--synthetic", "--seed", "-1"], "`seed` must be at least 0; received: -1"),
        (["--audio-dir", "gone"], "`audio_dir`: gone: no such folder"),
        (["--audio-dir", "TREE", "--split", "a=9"], "split a: no fold '9'; the folds are 1, 2"),
        (["--audio-dir", "TREE", "--split", "a"], "`split` must be NAME=FOLD"),
        (["--audio-dir", "TREE", "--classes", "gone.csv"], "gone.csv: no such file"),
    ],
)
def test_an_error_is_one_line(tree, tmp_path, arguments, message, capsys):
    arguments = [str(tree) if argument == "TREE" else argument for argument in arguments]
    assert main(["make-soundscapes", "--output", str(tmp_path / "out"), *arguments]) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert err[0].startswith("kerastag make-soundscapes: error: ")
    assert message in err[0]
    assert not (tmp_path / "out").exists()
