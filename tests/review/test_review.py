"""A review of a real run: killed in the middle, continued, and its head in a stream."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest
import soundfile
from custom.small_runs import CLASSES, backbone, cache_folder, recordings, run_custom

from checks import ROOT
from kerastag import audio
from kerastag.card import Card
from kerastag.custom.answers import read_answers
from kerastag.custom.exported import find_exported
from kerastag.edge import StreamingTagger
from kerastag.export import parity
from kerastag.export.device import Usage
from kerastag.review import ReviewConfig, open_review
from kerastag.training.run_folder import RunFolder

__all__ = ["backbone", "cache_folder", "recordings"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(recordings, backbone, cache_folder, tmp_path_factory):
    """Folder of a run with an exported head, and a recording of bursts between hums."""
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = ("--folds", "3", "--background", "none")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(parity, "measure_usage", lambda path, threads: Usage(1.0, 2.0))
        assert run_custom(recordings, backbone, folder, *flags) == 0
        from kerastag.custom.exported import export_parts

        clips = [path for name in CLASSES for path in sorted((recordings / name).glob("*.wav"))]
        export_parts(RunFolder.open(folder), [_make_recording(path) for path in clips])
    sounds = [audio.load(sorted((recordings / name).glob("*.wav"))[k], 32_000) for k in range(4) for name in CLASSES]
    soundfile.write(folder.parent / "garden.wav", np.concatenate(sounds), 32_000)
    return folder, folder.parent / "garden.wav"


def _make_recording(path):
    from kerastag.data.audio_lists import Recording

    return Recording(path, path.name, ())


def open_server(folder, *arguments):
    command = [sys.executable, "-m", "kerastag", "review", str(folder), *arguments, "--port", "0", "--train-every", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True, encoding="utf-8")


def test_a_server_that_is_killed_loses_no_answer_and_another_review_continues(run, tmp_path):
    folder, garden = run
    copy = shutil.copytree(folder, tmp_path / "run")
    with open_server(copy, str(garden), "--window-seconds", "1") as server:
        url = next(match[1] for line in server.stderr if (match := re.search(r"review .* at (http://\S+)", line)))
        saved = 0
        for value in ("yes", "no", "yes", "no", "yes"):
            number = httpx.get(f"{url}/v1/review").json()["question"]["number"]
            path = f"{url}/v1/review/questions/{number}/answer"
            assert httpx.post(path, json={"answer": value}).status_code == 200
            saved += 1
        server.send_signal(signal.SIGKILL)
    assert len(read_answers(copy / "review.sqlite")) == saved == 5

    lines = []
    session = open_review(ReviewConfig(run=str(copy), recordings=(str(garden),), window_seconds=1), lines.append)
    try:
        review = session.describe()
        assert review["answered"] == 5
        assert review["has_new_head"], "a head is trained on the answers of the review before"
        assert review["question"]["number"] == 1
        before = Card.read(copy / "head.tflite")
        exported = find_exported(RunFolder.open(copy))
        tagger = StreamingTagger(exported.embedder, exported.head)
        waveform = audio.load(garden, 32_000)
        tagger.feed(waveform[: 5 * 32_000], 32_000)
        session.start_writing()
        session.wait()
        assert session.describe()["error"] == ""
        tagger.replace_head(exported.head)
        card = Card.read(copy / "head.tflite")
        assert (card.labels, card.versions["embedder"]) == (before.labels, before.versions["embedder"])
        assert card.thresholds_origin == "best F1 on held-out clips and 5 answers of a review"
        assert all(new >= old for new, old in zip(card.thresholds, before.thresholds, strict=True))
        results = tagger.feed(waveform[5 * 32_000 :], 32_000)
        # The stream computes what the new model.keras computes.
        from kerastag.models.loading import load_model

        last = results[-1]
        window = waveform[round(last.start_seconds * 32_000) : round(last.end_seconds * 32_000)]
        assert len(window) == round(card.window_seconds * 32_000)
        expected = np.asarray(load_model(copy / "model.keras").predict_on_batch(window[None])["clipwise"][0])
        np.testing.assert_allclose(last.probabilities, expected, rtol=0, atol=0.1)
    finally:
        session.close()


def test_a_new_head_keeps_the_classes_of_the_backbone(run, tmp_path):
    folder, garden = run
    copy = shutil.copytree(folder, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps({**config, "keep_base": True}), encoding="utf-8")
    session = open_review(ReviewConfig(run=str(copy), recordings=(str(garden),), window_seconds=1), print)
    try:
        for _ in range(2):
            session.answer(session.describe()["question"]["number"], "yes")
            session.start_training()
            session.wait()
            session.start_writing()
            session.wait()
            assert session.describe()["error"] == ""
            cards = [Card.read(copy / name) for name in ("head.keras", "head.tflite", "model.keras")]
            for card in cards:
                assert card.labels.names == (*sorted(CLASSES), *(f"class {k}" for k in range(4)))
                assert card.thresholds[3:] == (0.1,) * 4
    finally:
        session.close()
    exported = find_exported(RunFolder.open(copy))
    results = StreamingTagger(exported.embedder, exported.head).feed(audio.load(garden, 32_000)[: 8 * 32_000], 32_000)
    assert {len(result.probabilities) for result in results} == {7}


def test_a_run_that_cannot_be_reviewed_is_named(run, recordings, backbone, tmp_path):
    folder, _ = run
    copy = shutil.copytree(folder, tmp_path / "run")
    with pytest.raises(ValueError, match="`recordings` must have at least one recording that is not a clip of the run"):
        open_review(ReviewConfig(run=str(copy), recordings=(str(recordings),)), print)
    with pytest.raises(FileNotFoundError, match=r"none\.wav: no such recording or folder"):
        open_review(ReviewConfig(run=str(copy), recordings=(str(tmp_path / "none.wav"),)), print)
    (copy / "head.keras").unlink()
    with pytest.raises(
        ValueError, match="must be a run of `kerastag learn`, which has head.keras, without fine_tune; received: custom"
    ):
        open_review(ReviewConfig(run=str(copy)), print)
    (copy / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        open_review(ReviewConfig(run=str(copy)), print)
