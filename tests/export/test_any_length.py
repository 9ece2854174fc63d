"""The target `any_length`, whose file takes recordings of any length, as Keras does."""

from pathlib import Path

import numpy as np
import pytest
from export.small_models import CLASSES, skip_usage
from tagger.small_models import save_small_model

pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")


def test_a_recording_of_any_length_gives_what_keras_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kerastag.edge.runtime import LiteRTModel
    from kerastag.edge.streaming import StreamingTagger
    from kerastag.export import export_model, read_target
    from kerastag.tagger import Tagger

    skip_usage(monkeypatch)
    model = save_small_model(tmp_path / "small.keras", CLASSES)
    report = export_model(model, read_target("any_length"), tmp_path / "small.tflite")
    assert {"noise 0.5", "noise 0.5, short"} <= report.differences["clipwise"].keys()
    assert LiteRTModel(tmp_path / "small.tflite").shape == (1, 64_000)
    keras_tagger, tagger = Tagger.load(model), Tagger.load(tmp_path / "small.tflite")
    waveform = np.random.default_rng(0).normal(0, 0.1, 150_000).astype(np.float32)
    for num_samples in (1, 20_000, 64_000, 150_000):
        expected = keras_tagger.predict_timeline(waveform[:num_samples], sample_rate=32_000)
        timeline = tagger.predict_timeline(waveform[:num_samples], sample_rate=32_000)
        np.testing.assert_allclose(timeline.clipwise, expected.clipwise, atol=1e-5)
        np.testing.assert_allclose(timeline.framewise, expected.framewise, atol=1e-5)
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]

    stream = StreamingTagger(tmp_path / "small.tflite", hop_seconds=0.64)
    results = [*stream.feed(waveform[:64_000], 32_000), *stream.flush()]
    np.testing.assert_allclose(
        results[-1].probabilities, tagger.predict(waveform[:64_000], sample_rate=32_000), atol=1e-5
    )
