"""TFLite Metadata: read by MediaPipe's own AudioClassifier where it is installed, and as a zip archive anywhere."""

import importlib.util
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from export.small_models import CLASSES

from checks import run_python
from kerastag.card import Card, write_card
from kerastag.edge.runtime import LiteRTModel
from kerastag.export import read_target
from kerastag.export.metadata import add_metadata
from kerastag.export.preparation import prepare_model
from kerastag.export.source import read_source
from kerastag.export.tflite import convert_model

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
CLASSIFY = """
import json, sys
import numpy as np
from mediapipe.tasks import python
from mediapipe.tasks.python import audio
from mediapipe.tasks.python.components import containers
options = audio.AudioClassifierOptions(base_options=python.BaseOptions(model_asset_path={path!r}))
with audio.AudioClassifier.create_from_options(options) as classifier:
    waveform = containers.AudioData.create_from_array(np.load({waveform!r}), 32_000)
    (result,) = classifier.classify(waveform)
print(json.dumps({{each.category_name: each.score for each in result.classifications[0].categories}}))
"""


@pytest.fixture(scope="module")
def classifier(tagger_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mediapipe") / "tagger.tflite"
    prepared = prepare_model(read_source(tagger_file), read_target("mediapipe"))
    path.write_bytes(add_metadata(convert_model(prepared), prepared.card, path.stem))
    write_card(path, prepared.card)
    return path


def test_labels_and_card_are_in_the_zip_archive_at_the_end_of_the_file(classifier: Path) -> None:
    with zipfile.ZipFile(classifier) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(CLASSES.names)
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED
    assert Card.read(classifier).labels == CLASSES
    assert LiteRTModel(classifier).outputs == ("clipwise",)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs the package mediapipe (extra `dev`)")
def test_the_audio_classifier_of_mediapipe_predicts_the_same_with_our_labels(classifier: Path, tmp_path: Path) -> None:
    waveform = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    np.save(tmp_path / "waveform.npy", waveform)
    output = run_python(CLASSIFY.format(path=str(classifier), waveform=str(tmp_path / "waveform.npy")))
    scores = json.loads(output.splitlines()[-1])
    expected = LiteRTModel(classifier)(waveform[None])["clipwise"][0]
    assert set(scores) == set(CLASSES.names)
    for name, probability in zip(CLASSES.names, expected, strict=True):
        assert abs(scores[name] - probability) < 1e-4
