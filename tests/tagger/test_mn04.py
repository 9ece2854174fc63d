"""Published weights on real recordings, compared with PyTorch."""

import os

import numpy as np
import pytest

from checks import SHARED
from kerastag import audio
from kerastag.dsp import FRONT_ENDS
from kerastag.labels import LabelSet
from kerastag.tagger import PRESETS, Tagger, fetch_model

DEMO = ("R9_ZSCveAHg_7s", "speech", "typing", "music")
TOP_TAGS = {
    "R9_ZSCveAHg_7s": {"Speech": 0.822, "Telephone bell ringing": 0.231, "Telephone": 0.219},
    "speech": {"Speech": 0.805, "Door": 0.304},
    "typing": {"Computer keyboard": 0.897, "Typing": 0.879},
    "music": {"Music": 0.567, "Speech": 0.116},
}


@pytest.fixture(scope="module")
def mn04(tmp_path_factory):
    """Load the preset from the weights in the shared folder."""
    from kerastag.fetch import fetch

    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    patch.setenv("KERASTAG_HOME", os.fspath(home))
    fetch("mn04_as", from_file=SHARED / "data/weights/mn04_as_mAP_432.pt")
    yield Tagger.load("mn04_as", engine="keras")
    patch.undo()


@pytest.mark.real
@pytest.mark.parametrize("name", DEMO)
def test_mn04_predicts_what_pytorch_predicts(mn04, name):
    golden = np.load(SHARED / "data/golden/mn04_as.npz")
    path = SHARED / f"data/audio/{name}.wav"
    probabilities = mn04.predict(path)
    np.testing.assert_allclose(probabilities, golden[f"{name}.probabilities"], rtol=0, atol=1e-4)
    embedding = golden[f"{name}.embedding"]
    assert np.abs(mn04.embed(path) - embedding).max() <= 1e-3 * np.abs(embedding).max()
    tags = mn04.select_tags(probabilities, top=len(TOP_TAGS[name]))
    assert {tag.name: pytest.approx(tag.probability, abs=5e-4) for tag in tags} == TOP_TAGS[name]
    assert [tag.name for tag in tags] == list(TOP_TAGS[name])


@pytest.mark.real
def test_a_preset_is_imported_once_with_its_card(mn04, monkeypatch):
    from kerastag import importers

    def fail(*arguments):
        raise AssertionError("imported again")

    monkeypatch.setattr(importers, "import_efficientat", fail, raising=False)
    assert fetch_model("mn04_as").is_file()
    assert "mn04_as" in PRESETS
    card = mn04.card
    assert card.labels == LabelSet.audioset()
    assert (card.sample_rate, card.seconds_per_frame, card.window_seconds) == (32_000, 0.32, 10.0)
    assert card.front_end == FRONT_ENDS["efficientat"].as_dict()


@pytest.mark.real
def test_the_telephone_precedes_the_speech(mn04):
    """In this recording a telephone rings in the first two seconds, and someone speaks after 2.5 s."""
    path = SHARED / "data/audio/R9_ZSCveAHg_7s.wav"
    timeline = mn04.predict_timeline(path)
    early, late = timeline.seconds < 2.2, timeline.seconds > 2.5
    speech, bell = (timeline.probabilities[:, timeline.labels.index(name)] for name in ("Speech", "Telephone"))
    assert speech[late].mean() > 5 * speech[early].mean()
    framewise = timeline.framewise[:, timeline.labels.index("Telephone")]
    assert framewise[early].max() > 0.5 > framewise[late].max()
    assert bell[early].max() == pytest.approx(TOP_TAGS["R9_ZSCveAHg_7s"]["Telephone"], abs=5e-4)
    assert timeline.duration_seconds == pytest.approx(len(audio.load(path, 32_000)) / 32_000)
