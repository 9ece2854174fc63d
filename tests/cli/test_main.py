"""The `kerastag` command: what it prints, and its exit status."""

import json

import numpy as np
import pytest

from checks import SHARED
from kerastag import fetch
from kerastag.__main__ import main
from kerastag.card import Card

MN04 = SHARED / "data/weights/mn04_as_mAP_432.pt"


@pytest.mark.parametrize("verb", ["tag", "import", "pack", "scenes", "fetch", "evaluate", "when"])
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert f"usage: kerastag {verb}" in capsys.readouterr().out


def test_fetch_lists_what_it_knows(capsys):
    assert main(["fetch"]) == 0
    out = capsys.readouterr().out
    for name, file in fetch.FILES.items():
        assert name in out
        assert file.base_url in out


def test_fetch_takes_a_copy_and_says_where_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.pth").write_bytes(b"weights")
    assert main(["fetch", "panns_cnn10", "--from", str(tmp_path / "mine.pth")]) == 0
    kept = tmp_path / "home" / "Cnn10_mAP=0.380.pth"
    assert capsys.readouterr().out.strip() == str(kept)
    assert kept.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "x.wav", "--model", "gone.keras"], "`model` must be a file or one of esc10, mn04_as"),
        (["tag", "x.wav", "--top", "0"], "`--top` must be at least 1"),
        (["import", "efficientat", "gone.pt", "--output", "x.keras"], "gone.pt"),
        (["import", "panns", "gone.pth", "--output", "x.keras"], "gone.pth"),
        (["import", "panns", "gone.pth", "--output", "x.h5"], "`output` must end in .keras"),
        (["import", "panns", "x.pth", "--output", "x.keras", "--labels", "gone.csv"], "gone.csv: no such class list"),
        (["import", "vggish", "gone.ckpt", "--pca", "gone.npz", "--output", "x.keras"], "gone.npz"),
        (["fetch", "mn03_as"], "`name` must be one of audioset_features"),
    ],
)
def test_an_error_is_one_line_and_a_status(arguments, message, capsys):
    assert main(arguments) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert err[0].startswith(f"kerastag {arguments[0]}: error: ")
    assert message in err[0]


def test_debug_shows_the_traceback():
    with pytest.raises(FileNotFoundError):
        main(["tag", "x.wav", "--model", "gone.keras", "--debug"])


@pytest.mark.real
def test_import_and_tag_name_the_sounds_of_real_recordings(tmp_path, capsys):
    model = str(tmp_path / "mn04.keras")
    assert main(["import", "efficientat", str(MN04), "--output", model]) == 0
    assert capsys.readouterr().out.strip() == model
    assert Card.read(model).origin == "EfficientAT, mn04_as_mAP_432.pt"
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    clips = [str(SHARED / f"data/audio/{name}.wav") for name in ("typing", "music")]
    with pytest.raises(SystemExit) as ended:
        main(["tag", clips[0], str(bad), clips[1], "--model", model, "--top", "1", "--format", "json"])
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    typing, music = json.loads(out)
    assert [typing["tags"][0]["name"], music["tags"][0]["name"]] == ["Computer keyboard", "Music"]
    np.testing.assert_allclose(
        [typing["tags"][0]["probability"], music["tags"][0]["probability"]], [0.897, 0.567], atol=5e-4
    )
    assert sum(str(bad) in line for line in err.splitlines()) == 1
