"""Attention heads with two signatures, compared with Keras for every head of the registry, and in a stream."""

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, build_model, make_card, needs_quantizer, save_model, skip_usage

from kerastag.card import write_card
from kerastag.edge import LiteRTModel
from kerastag.edge.head import WholeHead
from kerastag.export import Target, export_model, parity, read_target
from kerastag.export.inputs import make_probes
from kerastag.export.parity import predict_reference
from kerastag.export.preparation import PreparedModel, prepare_model
from kerastag.export.source import SourceModel
from kerastag.export.tflite import convert_model
from kerastag.models import MODELS

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
SPLIT = dataclasses.replace(read_target("streaming_head"), quantization="none")
POOLED_FIRST = {"es_average", "es_max", "es_min", "es_max_min"}
# One head of each structure: pooling with a mask, attention over segments, and attention at several layers.
QUICK = {"feature_average", "feature_attention", "multi_attention", "es_average", "es_max_min"}
HEADS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name, entry in MODELS.items()
    if entry.front_end is None
]


@pytest.fixture(autouse=True)
def _no_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_usage(monkeypatch)


def build_source(name: str) -> SourceModel:
    return SourceModel(build_model(name, units=8), make_card("vggish", 9.6, 0.96), Path(f"{name}.keras"))


@functools.cache
def convert(name: str, split: bool = True) -> tuple[LiteRTModel, PreparedModel]:
    prepared = prepare_model(build_source(name), dataclasses.replace(SPLIT, split=split))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "head.tflite")
        path.write_bytes(convert_model(prepared))
        write_card(path, prepared.card)
        return LiteRTModel(path), prepared


@pytest.mark.parametrize("name", [each for each in HEADS if each.values[0] not in POOLED_FIRST])
def test_every_head_in_two_parts_predicts_what_keras_predicts(name: str) -> None:
    model, prepared = convert(name)
    assert model.split is not None
    assert (model.input, model.shape) == ("embedding", (1, 10, 128))
    assert set(model.outputs) == {"clipwise", "framewise"}
    for probe, inputs in make_probes(prepared).items():
        expected, actual = predict_reference(prepared, inputs), model(inputs)
        for output, value in expected.items():
            np.testing.assert_allclose(actual[output], value, rtol=0, atol=1e-5, err_msg=f"{output} on {probe}")


@pytest.mark.parametrize("name", [each for each in HEADS if each.values[0] in POOLED_FIRST])
def test_a_model_that_pools_first_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="`split` needs a model with layers that process each segment"):
        convert_model(prepare_model(build_source(name), SPLIT))


def test_a_model_of_audio_is_refused() -> None:
    source = SourceModel(build_model("cnn10", width=1 / 32), make_card("panns", 2.0, 0.32), Path("cnn10.keras"))
    with pytest.raises(ValueError, match=r"must be log_mel for cnn10.keras; received: 'embedding'"):
        prepare_model(source, SPLIT)


def test_segment_by_segment_a_split_head_predicts_what_a_whole_head_predicts() -> None:
    model, whole = (convert("feature_attention", split)[0] for split in (True, False))
    assert whole.split is None
    assert model.split is not None
    segments = np.random.default_rng(1).integers(-128, 128, (4, 128)).astype(np.float32) / 128
    segments[2] = 0  # padding for a whole head
    heads = [model.split, WholeHead(whole, whole.shape)]
    bags = [np.zeros(head.bag_shape, np.float32) for head in heads]
    for newest, segment in enumerate(segments):
        predictions = []
        for head, bag in zip(heads, bags, strict=True):
            bag[0, newest] = head.process_segment(segment)
            predictions.append(head.predict(bag, newest))
        for output, (actual, expected) in enumerate(zip(*predictions, strict=True)):
            assert actual.shape == (len(CLASSES),)
            if output and not segment.any():
                continue  # padding has no probabilities of its own
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@needs_quantizer
def test_the_file_holds_its_weights_once_and_the_time_is_that_of_a_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_model("feature_attention", units=256)
    file = save_model(network, make_card("vggish", 9.6, 0.96), tmp_path / "head.keras")
    monkeypatch.undo()  # the usage is measured in this test
    monkeypatch.setattr(parity, "_NUM_THREADS", (1,))
    report = export_model(file, read_target("streaming_head"), tmp_path / "head.tflite")
    assert report.size_bytes < 1.1 * network.count_params() + 20_000
    assert "| 0.96 s of audio, 1 thread |" in report.as_markdown()
    assert 0 < report.usage[1].milliseconds < 1_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": 1}, "`split` must be true or false; received: 1"),
        ({"split": True, "quantization": "int8"}, "`split` must be false with tflite and int8; received: true"),
        ({"split": True, "format": "saved_model"}, "`split` must be false with saved_model and none; received: true"),
    ],
)
def test_a_target_that_cannot_be_split_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Target(name="mine", **options)
