"""A head in two signatures: every system whose segments have layers of their own, against Keras and in a stream."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, built, card_of, needs_quantizer, saved, without_measuring

from kerastag.card import write_card
from kerastag.edge import LiteRTModel
from kerastag.edge.head import WholeHead
from kerastag.export import parity, probes
from kerastag.export.export import export
from kerastag.export.serving import Served, serve
from kerastag.export.source import Source
from kerastag.export.target import Target, read_target
from kerastag.export.tflite import convert
from kerastag.models import MODELS

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
SPLIT = dataclasses.replace(read_target("streaming_head"), quantization="none")
POOLED_FIRST = {"es_average", "es_max", "es_min", "es_max_min"}
HEADS = sorted(name for name, entry in MODELS.items() if entry.front_end is None)


@pytest.fixture(autouse=True)
def no_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and memory of an exported file are measured in one test of its own."""
    without_measuring(monkeypatch)


def source_of(name: str) -> Source:
    return Source(built(name, units=8), card_of("vggish", 9.6, 0.96), Path(f"{name}.keras"))


def written(name: str, path: Path, target: Target = SPLIT) -> tuple[LiteRTModel, Served]:
    served = serve(source_of(name), target)
    path.write_bytes(convert(served))
    write_card(path, served.card)
    return LiteRTModel(path), served


@pytest.mark.parametrize("name", sorted(set(HEADS) - POOLED_FIRST))
def test_every_head_says_in_two_parts_what_keras_says(name: str, tmp_path: Path) -> None:
    model, served = written(name, tmp_path / "head.tflite")
    assert model.split is not None
    assert (model.input, model.shape) == ("embedding", (1, 10, 128))
    assert set(model.outputs) == {"clipwise", "framewise"}
    for probe, given in probes.inputs(served).items():
        expected, actual = parity.reference(served, given), model(given)
        for output, wanted in expected.items():
            np.testing.assert_allclose(actual[output], wanted, rtol=0, atol=1e-5, err_msg=f"{output} on {probe}")


@pytest.mark.parametrize("name", sorted(POOLED_FIRST))
def test_what_is_pooled_first_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="`split` needs a model whose segments go through layers of their own"):
        convert(serve(source_of(name), SPLIT))


def test_what_hears_is_refused() -> None:
    hears = Source(built("cnn10", width=1 / 32), card_of("panns", 2.0, 0.32), Path("cnn10.keras"))
    with pytest.raises(ValueError, match=r"cnn10.keras can take: it takes log_mel, not embedding"):
        serve(hears, SPLIT)


def test_step_by_step_it_says_what_a_head_in_one_says(tmp_path: Path) -> None:
    model, _ = written("feature_attention", tmp_path / "split.tflite")
    whole, _ = written("feature_attention", tmp_path / "whole.tflite", dataclasses.replace(SPLIT, split=False))
    assert whole.split is None
    assert model.split is not None
    segments = np.random.default_rng(1).integers(-128, 128, (4, 128)).astype(np.float32) / 128
    segments[2] = 0  # what a whole head takes for padding
    heads = [model.split, WholeHead(whole, whole.shape)]
    bags = [np.zeros(head.bag_shape, np.float32) for head in heads]
    for newest, segment in enumerate(segments):
        said = []
        for head, bag in zip(heads, bags, strict=True):
            bag[0, newest] = head.keep(segment)
            said.append(head.say(bag, newest))
        for output, (ours, theirs) in enumerate(zip(*said, strict=True)):
            assert ours.shape == (len(CLASSES),)
            if output and not segment.any():
                continue  # padding has no probabilities of its own
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@needs_quantizer
def test_its_weights_are_there_once_and_the_next_segment_is_what_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = built("feature_attention", units=256)
    file = saved(network, card_of("vggish", 9.6, 0.96), tmp_path / "head.keras")
    monkeypatch.undo()  # it is measured for once
    report = export(file, read_target("streaming_head"), tmp_path / "head.tflite")
    assert report.size_bytes < 1.1 * network.count_params() + 20_000
    assert "| 0.96 s of sound, 1 thread |" in report.table()
    assert 0 < report.use[1].milliseconds < 1_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": 1}, "`split` must be true or false, received 1"),
        ({"split": True, "quantization": "int8"}, "`split` must be false with tflite and int8, received true"),
        ({"split": True, "format": "saved_model"}, "`split` must be false with saved_model and none, received true"),
    ],
)
def test_a_target_that_cannot_be_split_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Target(name="mine", **wrong)
