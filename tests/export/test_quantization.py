"""Quantization: which layers are quantized, which stay float, and how much accuracy it costs."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, build_model, make_card, needs_quantizer

from kerastag.card import write_card
from kerastag.edge.runtime import LiteRTModel
from kerastag.export.preparation import PreparedModel, prepare_model
from kerastag.export.quantization import PRODUCTS, quantize, read_operations
from kerastag.export.source import SourceModel, read_source
from kerastag.export.target import Target, read_target
from kerastag.export.tflite import convert_model, lower_operation_versions

pytestmark = [
    needs_quantizer,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow"),
]


@pytest.fixture(scope="module")
def head(head_file: Path) -> tuple[PreparedModel, bytes]:
    prepared = prepare_model(read_source(head_file), Target(name="float32"))
    return prepared, convert_model(prepared)


@pytest.fixture(scope="module")
def tagger(tagger_file: Path) -> tuple[PreparedModel, bytes]:
    prepared = prepare_model(read_source(tagger_file), Target(name="float32"))
    return prepared, convert_model(prepared)


def run(content: bytes, prepared: PreparedModel, inputs: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "model.tflite"
    path.write_bytes(content)
    write_card(path, prepared.card)
    return LiteRTModel(path)(inputs)


def make_embeddings(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-128, 128, (count, 10, 128)).astype(np.float32) / 128


@pytest.fixture(scope="module")
def quantized_heads(head: tuple[PreparedModel, bytes]) -> dict[str, bytes]:
    recordings = [each[None] for each in make_embeddings(20)]
    targets = (read_target(name) for name in ("float16", "int8_dynamic", "tflite_runtime", "int8", "int16x8"))
    return {
        target.name: quantize(head[1], dataclasses.replace(target, smallest_weights=0), (), recordings)
        for target in targets
    }


@pytest.mark.parametrize(
    ("name", "largest", "atol"),
    [("float16", 0.6, 1e-3), ("int8_dynamic", 0.4, 0.03), ("tflite_runtime", 0.4, 0.05), ("int8", 0.45, 0.06)],
)
def test_a_quantized_file_is_smaller_and_predicts_nearly_the_same(
    name: str, largest: float, atol: float, head: tuple[PreparedModel, bytes], quantized_heads: Any, tmp_path: Path
) -> None:
    prepared, content = head
    inputs, quantized = make_embeddings(8), quantized_heads[name]
    assert len(quantized) < largest * len(content)
    expected = prepared.reference.predict_on_batch(inputs)["clipwise"]
    actual = run(quantized, prepared, inputs, tmp_path)["clipwise"]
    difference = np.abs(actual - expected).max()
    assert 0 < difference < atol
    assert atol < expected.std() * 3, "the tolerance must be small compared with the variation of the probabilities"


def test_int16_activations_are_more_accurate_than_int8(
    head: tuple[PreparedModel, bytes], quantized_heads: dict[str, bytes], tmp_path: Path
) -> None:
    prepared, inputs = head[0], make_embeddings(8)
    expected = prepared.reference.predict_on_batch(inputs)["clipwise"]
    int8, int16 = (
        np.abs(run(quantized_heads[name], prepared, inputs, tmp_path)["clipwise"] - expected).mean()
        for name in ("int8", "int16x8")
    )
    assert int16 < int8


def test_the_product_before_the_probabilities_stays_float(
    head: tuple[PreparedModel, bytes], quantized_heads: dict[str, bytes], tmp_path: Path
) -> None:
    operations = read_operations(quantized_heads["int8"])
    (sigmoid,) = [op for op in operations if op.kind == "LOGISTIC" and op.outputs[0].endswith(":0")][:1]
    producer = next(op for op in operations if sigmoid.inputs[0] in op.outputs)
    assert producer.kind != "DEQUANTIZE"
    clipwise = run(quantized_heads["int8"], head[0], make_embeddings(64), tmp_path)["clipwise"]
    assert len(np.unique(clipwise)) > 300  # an 8-bit sigmoid has 256 values


def test_int8_without_recordings_is_refused(head: tuple[PreparedModel, bytes]) -> None:
    with pytest.raises(ValueError, match=r"target int8 needs `representative`"):
        quantize(head[1], read_target("int8"), ())


def test_the_front_end_and_small_layers_stay_float(tagger: tuple[PreparedModel, bytes], tmp_path: Path) -> None:
    prepared, content = tagger
    target = dataclasses.replace(read_target("int8_dynamic"), smallest_weights=500)
    quantized = quantize(content, target, prepared.front_end_layers)
    weights = read_weights(quantized)
    front_end = {name: kind for name, (kind, _) in weights.items() if "front_end" in name}
    assert len(front_end) >= 3, weights  # the convolution, the product, the mel bands
    assert set(front_end.values()) == {"FLOAT32"}
    body = [each for name, each in weights.items() if name not in front_end]
    assert {kind for kind, size in body if size >= 500} == {"INT8"}
    assert {kind for kind, size in body if size < 500} == {"FLOAT16"}
    # An 8-bit front end would fail on quiet audio.
    quiet = 0.005 * np.random.default_rng(0).standard_normal((1, *prepared.input_shape)).astype(np.float32)
    expected = prepared.reference.predict_on_batch(quiet)["clipwise"]
    np.testing.assert_allclose(run(quantized, prepared, quiet, tmp_path)["clipwise"], expected, rtol=0, atol=0.03)


def test_keep_float_matches_names_of_tensors(tagger: tuple[PreparedModel, bytes]) -> None:
    prepared, content = tagger
    target = dataclasses.replace(read_target("int8_dynamic"), smallest_weights=0, keep_float=("conv_block[12]",))
    weights = read_weights(quantize(content, target, prepared.front_end_layers))
    names = {name for name, (kind, _) in weights.items() if kind == "FLOAT32" and "front_end" not in name}
    assert len(names) == 4  # two convolutions per block
    assert all("conv_block1" in name or "conv_block2" in name for name in names)


def build_small_network() -> keras.Model:
    """Build a network with a pooling before a small layer, and a hidden layer of many weights after the embedding."""
    log_mel = keras.Input((None, 64), name="log_mel")
    x = keras.layers.AveragePooling2D(4)(log_mel[..., None])
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(keras.layers.MaxPooling2D(2)(x))
    embedding = keras.layers.GlobalAveragePooling2D()(x)
    hidden = keras.layers.Dense(32, activation="relu")(embedding)
    clipwise = keras.layers.Dense(len(CLASSES), activation="sigmoid")(hidden)
    return keras.Model(log_mel, {"clipwise": clipwise, "embedding": embedding})


@pytest.fixture(scope="module", params=["small", pytest.param("mn", marks=pytest.mark.slow)])
def model_in_8_bits(request: pytest.FixtureRequest) -> tuple[PreparedModel, bytes]:
    """Quantize a model of log-mel with an output, the embedding, that is the input of a layer too."""
    target = dataclasses.replace(read_target("int8"), input="log_mel", smallest_weights=400)
    keras.utils.set_random_seed(0)
    network = build_model("mn", width=0.1) if request.param == "mn" else build_small_network()
    card = make_card("efficientat" if request.param == "mn" else "panns", 1.2, 0.32)
    prepared = prepare_model(SourceModel(network, card, Path("model.keras")), target)
    recordings = np.random.default_rng(0).standard_normal((10, 1, *prepared.input_shape)).astype(np.float32)
    return prepared, quantize(convert_model(prepared), target, prepared.front_end_layers, recordings)


def test_an_output_that_is_the_input_of_a_layer_is_float(
    model_in_8_bits: tuple[PreparedModel, bytes], tmp_path: Path
) -> None:
    prepared, quantized = model_in_8_bits
    inputs = np.random.default_rng(1).standard_normal((1, *prepared.input_shape)).astype(np.float32)
    outputs = run(quantized, prepared, inputs, tmp_path)
    assert {name: value.dtype for name, value in outputs.items()} == dict.fromkeys(
        prepared.reference.output, np.float32
    )
    expected = np.asarray(prepared.reference(inputs)["embedding"])
    assert np.abs(outputs["embedding"] - expected).max() < 0.2 * np.abs(expected).max()


def test_nothing_is_quantized_between_layers_that_stay_float(model_in_8_bits: tuple[PreparedModel, bytes]) -> None:
    operations = read_operations(model_in_8_bits[1])
    producers = {name: each.kind for each in operations for name in each.outputs}
    consumers = {name: {other.kind for other in operations if name in other.inputs} for name in producers}
    isolated = [
        each
        for each in operations
        if producers.get(each.inputs[0]) == "QUANTIZE" and consumers.get(each.outputs[0]) == {"DEQUANTIZE"}
    ]
    assert {each.kind for each in isolated} <= set(PRODUCTS)
    assert "QUANTIZE" in {each.kind for each in operations}  # large layers are in 8 bits


def read_weights(content: bytes) -> dict[str, tuple[str, int]]:
    """Read the type and number of the weights of every product, by the name of its output."""
    from tensorflow.lite.python import schema_py_generated as schema

    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    model: Any = schema.ModelT.InitFromPackedBuf(content)
    ((graph,), weights) = model.subgraphs, {}
    dequantized = {op.outputs[0]: op.inputs[0] for op in graph.operators if get_kind(model, op) == "DEQUANTIZE"}
    for op in graph.operators:
        if get_kind(model, op) in PRODUCTS:
            tensor = graph.tensors[dequantized.get(op.inputs[1], op.inputs[1])]
            weights[graph.tensors[op.outputs[0]].name.decode()] = (types[tensor.type], int(np.prod(tensor.shape)))
    return weights


def get_kind(model: Any, op: Any) -> str:
    from tensorflow.lite.python import schema_py_generated as schema

    number = model.operatorCodes[op.opcodeIndex].builtinCode
    return next(name for name, value in vars(schema.BuiltinOperator).items() if value == number)


def test_only_the_versions_of_operations_are_lowered_for_the_old_interpreter(
    head: tuple[PreparedModel, bytes],
) -> None:
    _, content = head
    before, after = read_operations(content), read_operations(lower_operation_versions(content))
    changed = {old.kind for old, new in zip(before, after, strict=True) if old != new}
    assert changed <= {"CAST"}
    assert [op.version for op in after if op.kind == "CAST"] == [1] * sum(op.kind == "CAST" for op in before)
