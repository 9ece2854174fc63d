"""The engine of a model: exports of published weights in the cache folder, and what runs without TensorFlow."""

import hashlib
import json
import os

import pytest

from checks import SHARED
from kerastag._version import __version__
from kerastag.bundled import resolve_model_path
from kerastag.cli import main
from kerastag.tagger import Tagger, engines
from kerastag.tagger.engines import prepare_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return a cache folder with weights of mn04_as and an export of them, whose contents do not matter."""
    monkeypatch.setenv("KERASTAG_HOME", os.fspath(tmp_path))
    (tmp_path / "mn04_as_mAP_432.pt").write_bytes(b"weights")
    (tmp_path / "mn04_as.tflite").write_bytes(b"model")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("weights", "model")}
    record = {"format": 1, "kerastag": __version__, "weights": digests["weights"], "file": digests["model"]}
    (tmp_path / "mn04_as.tflite.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(engines, "fetch_model", lambda name: tmp_path / f"{name}.keras")
    return tmp_path


def install(monkeypatch, *packages):
    monkeypatch.setattr(engines, "_is_installed", lambda package: package in packages)
    monkeypatch.setenv("KERAS_BACKEND", "")  # so that what is set is undone
    monkeypatch.delenv("KERAS_BACKEND")


def test_an_export_in_the_cache_needs_no_framework(cache, monkeypatch):
    install(monkeypatch, "ai_edge_litert")
    for engine in ("auto", "litert"):
        assert prepare_model("mn04_as", engine) == cache / "mn04_as.tflite"


def test_keras_runs_published_weights_where_it_is_asked_for(cache, monkeypatch):
    install(monkeypatch, "ai_edge_litert", "keras", "tensorflow")
    assert prepare_model("mn04_as", "keras") == cache / "mn04_as.keras"


@pytest.mark.parametrize("name", ["mn04_as.tflite", "mn04_as_mAP_432.pt", "mn04_as.tflite.json"])
def test_an_export_that_is_damaged_or_older_is_not_used(cache, monkeypatch, name):
    (cache / name).write_bytes(b"changed")
    install(monkeypatch, "ai_edge_litert", "keras", "jax")
    assert prepare_model("mn04_as") == cache / "mn04_as.keras"
    assert os.environ["KERAS_BACKEND"] == "jax"
    with pytest.raises(ImportError, match=r"mn04_as: exporting it to LiteRT needs TensorFlow: .*'kerastag\[export\]'"):
        prepare_model("mn04_as", "litert")


def test_a_missing_framework_is_one_line_that_names_the_extra(cache, monkeypatch):
    (cache / "mn04_as.tflite").unlink()
    for packages in ((), ("ai_edge_litert",), ("keras",), ("jax",)):
        install(monkeypatch, *packages)
        with pytest.raises(ImportError, match=r"mn04_as: running it needs .*: pip install 'kerastag\[export\]'"):
            prepare_model("mn04_as")


def test_a_file_is_run_by_the_engine_of_its_format(tmp_path):
    path = resolve_model_path("esc10")
    assert prepare_model(path) == prepare_model(str(path), "litert") == prepare_model("esc10") == path
    with pytest.raises(ValueError, match=r"`engine` must be auto or the one of the file for .*; received: 'keras'"):
        prepare_model(path, "keras")
    with pytest.raises(ValueError, match="`engine` must be one of auto, litert, keras; received: 'onnx'"):
        prepare_model(path, "onnx")
    with pytest.raises(ValueError, match="`engine` must be auto or the one of the file for esc10; received: 'keras'"):
        Tagger.load("esc10", engine="keras")


@pytest.mark.real
@pytest.mark.slow
def test_published_weights_are_exported_once_and_again_if_the_file_is_damaged(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERASTAG_HOME", os.fspath(tmp_path))
    weights = SHARED / "data/weights/mn04_as_mAP_432.pt"
    assert main(["fetch", "mn04_as", "--from", os.fspath(weights)]) == 0
    command = ["tag", os.fspath(SHARED / "data/audio/R9_ZSCveAHg_7s.wav"), "--model", "mn04_as", "--format", "jsonl"]
    capsys.readouterr()
    outputs = []
    for damage, is_exported in ((False, True), (False, False), (True, True)):
        if damage:
            (tmp_path / "mn04_as.tflite").write_bytes((tmp_path / "mn04_as.tflite").read_bytes()[:100_000])
        assert main(command) == 0
        out, err = capsys.readouterr()
        assert ("exporting mn04_as" in err) == is_exported
        outputs.append(json.loads(out))
    assert outputs[0] == outputs[1] == outputs[2]
    tags = {tag.name: pytest.approx(tag.probability, abs=1e-6) for tag in Tagger.load("mn04_as").tag(command[1], top=5)}
    assert {tag["name"]: tag["probability"] for tag in outputs[0]["tags"]} == tags
    tags = {tag["name"]: tag["probability"] for tag in outputs[0]["tags"]}
    assert tags["Speech"] == pytest.approx(0.822, abs=5e-4)
    assert main([*command, "--engine", "keras"]) == 0
    for tag in json.loads(capsys.readouterr().out)["tags"]:
        assert tags[tag["name"]] == pytest.approx(tag["probability"], abs=5e-5)
