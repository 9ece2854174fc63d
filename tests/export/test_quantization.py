"""Fewer bits where they do no harm: what is quantized, what stays float, and what it costs."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import soundfile
from export.small_models import built, card_of, needs_quantizer

from kerastag.card import write_card
from kerastag.edge.runtime import LiteRTModel
from kerastag.export.clips import representative
from kerastag.export.graph import PRODUCTS, operations
from kerastag.export.quantization import quantize
from kerastag.export.serving import Served, serve
from kerastag.export.source import Source, read_source
from kerastag.export.target import Target, read_target
from kerastag.export.tflite import convert, for_tflite_runtime

pytestmark = [
    needs_quantizer,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow"),
]


@pytest.fixture(scope="module")
def head(heads: Path) -> tuple[Served, bytes]:
    served = serve(read_source(heads), Target(name="float32"))
    return served, convert(served)


@pytest.fixture(scope="module")
def heard(hearing: Path) -> tuple[Served, bytes]:
    served = serve(read_source(hearing), Target(name="float32"))
    return served, convert(served)


def outputs(content: bytes, served: Served, given: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "model.tflite"
    path.write_bytes(content)
    write_card(path, served.card)
    return LiteRTModel(path)(given)


def embeddings(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-128, 128, (count, 10, 128)).astype(np.float32) / 128


@pytest.mark.parametrize(
    ("name", "largest", "atol"),
    [("float16", 0.6, 1e-3), ("int8_dynamic", 0.4, 0.03), ("tflite_runtime", 0.4, 0.05), ("int8", 0.45, 0.06)],
)
def test_fewer_bits_make_it_smaller_and_say_nearly_the_same(
    name: str, largest: float, atol: float, head: tuple[Served, bytes], tmp_path: Path
) -> None:
    served, content = head
    target = dataclasses.replace(read_target(name), smallest_weights=0)
    given = embeddings(8)
    small = quantize(content, target, (), [each[None] for each in embeddings(20)])
    assert len(small) < largest * len(content)
    expected = served.reference.predict_on_batch(given)["clipwise"]
    actual = outputs(small, served, given, tmp_path)["clipwise"]
    difference = np.abs(actual - expected).max()
    assert 0 < difference < atol
    assert atol < expected.std() * 3  # so that the bound means something


def test_int16_activations_are_closer_than_int8(head: tuple[Served, bytes], tmp_path: Path) -> None:
    served, content = head
    given, seen = embeddings(8), [each[None] for each in embeddings(20)]
    expected = served.reference.predict_on_batch(given)["clipwise"]
    errors = []
    for name in ("int8", "int16x8"):
        small = quantize(content, dataclasses.replace(read_target(name), smallest_weights=0), (), seen)
        errors.append(np.abs(outputs(small, served, given, tmp_path)["clipwise"] - expected).mean())
    assert errors[1] < errors[0]


def test_what_the_probabilities_are_taken_from_stays_float(head: tuple[Served, bytes], tmp_path: Path) -> None:
    served, content = head
    small = quantize(content, read_target("int8"), (), [each[None] for each in embeddings(5)])
    (sigmoid,) = [op for op in operations(small) if op.kind == "LOGISTIC" and op.outputs[0].endswith(":0")][:1]
    maker = next(op for op in operations(small) if sigmoid.inputs[0] in op.outputs)
    assert maker.kind != "DEQUANTIZE"
    rows = outputs(small, served, embeddings(64), tmp_path)["clipwise"]
    assert len(np.unique(rows)) > 300  # an 8-bit sigmoid has 256 values


def test_without_recordings_int8_is_refused(head: tuple[Served, bytes]) -> None:
    with pytest.raises(ValueError, match=r"target int8 needs `representative`"):
        quantize(head[1], read_target("int8"), ())


def test_the_front_end_stays_float_and_few_weights_too(heard: tuple[Served, bytes], tmp_path: Path) -> None:
    served, content = heard
    target = dataclasses.replace(read_target("int8_dynamic"), smallest_weights=500)
    small = quantize(content, target, served.front_ends)
    found = weights(small)
    front_end = {name: kind for name, (kind, _) in found.items() if "front_end" in name}
    assert len(front_end) >= 3, found  # the convolution, the product, the mel bands
    assert set(front_end.values()) == {"FLOAT32"}
    body = [each for name, each in found.items() if name not in front_end]
    assert {kind for kind, size in body if size >= 500} == {"INT8"}
    assert {kind for kind, size in body if size < 500} == {"FLOAT16"}
    # Quiet sound is where an 8-bit front end would fail.
    quiet = 0.005 * np.random.default_rng(0).standard_normal((1, *served.shape)).astype(np.float32)
    expected = served.reference.predict_on_batch(quiet)["clipwise"]
    np.testing.assert_allclose(outputs(small, served, quiet, tmp_path)["clipwise"], expected, rtol=0, atol=0.03)


def test_keep_float_is_a_regular_expression_over_tensors(heard: tuple[Served, bytes]) -> None:
    served, content = heard
    target = dataclasses.replace(read_target("int8_dynamic"), smallest_weights=0, keep_float=("conv_block[12]",))
    found = weights(quantize(content, target, served.front_ends))
    kept = {name for name, (kind, _) in found.items() if kind == "FLOAT32" and "front_end" not in name}
    assert len(kept) == 4  # two convolutions a block
    assert all("conv_block1" in name or "conv_block2" in name for name in kept)


@pytest.fixture(scope="module")
def mn_in_8_bits() -> tuple[Served, bytes]:
    """What is served, and the 8-bit file; log-mel in, an embedding out that a layer reads too."""
    target = dataclasses.replace(read_target("int8"), input="log_mel", smallest_weights=400)
    source = Source(built("mn", width=0.1), card_of("efficientat", 1.2, 0.32), Path("mn.keras"))
    served = serve(source, target)
    seen = np.random.default_rng(0).standard_normal((10, 1, *served.shape)).astype(np.float32)
    return served, quantize(convert(served), target, served.front_ends, seen)


def test_what_a_file_gives_out_is_float_though_a_layer_reads_it(
    mn_in_8_bits: tuple[Served, bytes], tmp_path: Path
) -> None:
    served, small = mn_in_8_bits
    given = np.random.default_rng(1).standard_normal((1, *served.shape)).astype(np.float32)
    given_out = outputs(small, served, given, tmp_path)
    assert {name: value.dtype for name, value in given_out.items()} == dict.fromkeys(
        ("clipwise", "framewise", "embedding"), np.float32
    )
    wanted = served.reference.predict_on_batch(given)
    assert np.abs(given_out["embedding"] - wanted["embedding"]).max() < 0.2 * np.abs(wanted["embedding"]).max()


def test_between_layers_that_stay_float_nothing_is_rounded(mn_in_8_bits: tuple[Served, bytes]) -> None:
    found = operations(mn_in_8_bits[1])
    maker = {name: each.kind for each in found for name in each.outputs}
    readers = {name: {other.kind for other in found if name in other.inputs} for name in maker}
    alone = [
        each
        for each in found
        if maker.get(each.inputs[0]) == "QUANTIZE" and readers.get(each.outputs[0]) == {"DEQUANTIZE"}
    ]
    assert {each.kind for each in alone} <= set(PRODUCTS)
    assert [each.kind for each in found].count("QUANTIZE") > 3  # large layers are in 8 bits


def test_recordings_come_in_no_order_of_their_names(hearing: Path, tmp_path: Path) -> None:
    served = serve(read_source(hearing), Target(name="float32", input="waveform"))
    levels = np.arange(1, 31) / 100
    for index, level in enumerate(levels):
        sound = np.full(served.samples, level, np.float32)
        soundfile.write(tmp_path / f"{index:02}.wav", sound, served.card.sample_rate, subtype="FLOAT")
    heard = [float(each.max()) for each in representative(tmp_path, served)]
    assert sorted(heard) == pytest.approx(list(levels))
    assert abs(np.corrcoef(heard, np.arange(30))[0, 1]) < 0.4
    assert heard == [float(each.max()) for each in representative(tmp_path, served)]


def weights(content: bytes) -> dict[str, tuple[str, int]]:
    """The content of a file -> of every product, by the name of its output, the type and number of its weights."""
    from tensorflow.lite.python import schema_py_generated as schema

    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    model: Any = schema.ModelT.InitFromPackedBuf(content)
    ((graph,), found) = model.subgraphs, {}
    opened = {op.outputs[0]: op.inputs[0] for op in graph.operators if kind_of(model, op) == "DEQUANTIZE"}
    for op in graph.operators:
        if kind_of(model, op) in PRODUCTS:
            tensor = graph.tensors[opened.get(op.inputs[1], op.inputs[1])]
            found[graph.tensors[op.outputs[0]].name.decode()] = (types[tensor.type], int(np.prod(tensor.shape)))
    return found


def kind_of(model: Any, op: Any) -> str:
    from tensorflow.lite.python import schema_py_generated as schema

    number = model.operatorCodes[op.opcodeIndex].builtinCode
    return next(name for name, value in vars(schema.BuiltinOperator).items() if value == number)


def test_versions_are_lowered_for_the_old_interpreter_and_nothing_else(head: tuple[Served, bytes]) -> None:
    _, content = head
    before, after = operations(content), operations(for_tflite_runtime(content))
    changed = {old.kind for old, new in zip(before, after, strict=True) if old != new}
    assert changed <= {"CAST"}
    assert [op.version for op in after if op.kind == "CAST"] == [1] * sum(op.kind == "CAST" for op in before)
