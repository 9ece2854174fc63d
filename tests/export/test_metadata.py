"""What MediaPipe reads of a file: its own AudioClassifier where it is installed, the zip at the end anywhere."""

import importlib.util
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, exported_unmeasured

from checks import run_python
from kerastag.card import Card
from kerastag.edge.runtime import LiteRTModel

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
ASK = """
import json, sys
import numpy as np
from mediapipe.tasks import python
from mediapipe.tasks.python import audio
from mediapipe.tasks.python.components import containers
options = audio.AudioClassifierOptions(base_options=python.BaseOptions(model_asset_path={path!r}))
with audio.AudioClassifier.create_from_options(options) as classifier:
    sound = containers.AudioData.create_from_array(np.load({sound!r}), 32_000)
    (heard,) = classifier.classify(sound)
print(json.dumps({{each.category_name: each.score for each in heard.classifications[0].categories}}))
"""


@pytest.fixture(scope="module")
def classifier(hearing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_unmeasured(hearing, "mediapipe", tmp_path_factory.mktemp("mediapipe") / "hearing.tflite")


def test_labels_and_card_are_in_the_zip_at_its_end(classifier: Path) -> None:
    with zipfile.ZipFile(classifier) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(CLASSES.names)
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED
    assert Card.read(classifier).labels == CLASSES
    assert LiteRTModel(classifier).outputs == ("clipwise",)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs the package mediapipe (extra `dev`)")
def test_mediapipes_audio_classifier_loads_it_and_answers_with_our_labels(classifier: Path, tmp_path: Path) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    np.save(tmp_path / "sound.npy", sound)
    answer = run_python(ASK.format(path=str(classifier), sound=str(tmp_path / "sound.npy")))
    scores = json.loads(answer.splitlines()[-1])
    expected = LiteRTModel(classifier)(sound[None])["clipwise"][0]
    assert set(scores) == set(CLASSES.names)
    for name, probability in zip(CLASSES.names, expected, strict=True):
        assert abs(scores[name] - probability) < 1e-4
