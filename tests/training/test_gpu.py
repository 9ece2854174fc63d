"""Training on a GPU with deterministic operations: what a step would run there, and steps where there is one."""

import importlib
import json

import keras
import numpy as np
import pytest

from kerastag.data.soundscape_mixer import SoundscapeConfig
from kerastag.data.soundscapes import write_synthetic_soundscapes
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.dsp import FRONT_ENDS
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.models import MODELS
from kerastag.training.config import TrainingConfig
from kerastag.training.optimization import compile_model
from kerastag.training.outputs import select_training_outputs
from kerastag.training.state import build_optimizer

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX has no such operations")

# Operations whose GPU kernel refuses to run after `tf.config.experimental.enable_op_determinism()`: those named by the
# errors of TensorFlow 2.21 (`OpDeterminismRequired()` in tensorflow/core/kernels, `strings libtensorflow_cc.so.2`).
# Not among them: segment sums, which have deterministic kernels since 2.8, and the filter gradient of a depthwise
# convolution, which is refused only by builds without cuDNN 7.6.3.
REFUSED = {
    *("AdjustContrast", "AdjustContrastv2", "Bincount", "DenseBincount", "Timestamp"),
    *("CropAndResizeGradBoxes", "CropAndResizeGradImage", "ResizeNearestNeighborGrad"),
    *("DebugNumericSummaryV2", "Dilation2DBackpropFilter", "Dilation2DBackpropInput", "MaxPoolGradWithArgmax"),
    *("FakeQuantWithMinMaxVarsGradient", "FakeQuantWithMinMaxVarsPerChannelGradient", "SparseTensorDenseMatMul", "Svd"),
    *("ScatterAdd", "ScatterDiv", "ScatterMax", "ScatterMin", "ScatterMul", "ScatterSub", "ScatterUpdate"),
    *("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"),
}
# These refuse where their attribute `is_training` is false.
REFUSED_IN_INFERENCE = {"FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3"}
SLOW = {"resnet38", "at_sca", "mn", *(name for name in MODELS if name.startswith("gl_at") and name != "gl_at_cnn10")}


def list_refused(graph):
    """List the operations of a graph, and of the functions that it calls, that a GPU refuses."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    frozen = [node for node in nodes if node.op in REFUSED_IN_INFERENCE and not node.attr["is_training"].b]
    return sorted({node.op for node in [*frozen, *(node for node in nodes if node.op in REFUSED)]})


def trace_on_gpu(function, *specs):
    """Trace a function as it is placed on a GPU, which needs none; it cannot be called without one."""

    def place(*arguments):
        with tf.device("GPU:0"):
            return function(*arguments)

    return tf.function(place).get_concrete_function(*specs).graph


def build(name, **arguments):
    """Build a narrow model, and return it with the shape of an item of its input."""
    front_end = MODELS[name].front_end
    if front_end is None:
        return MODELS[name].build(num_classes=3, num_features=8, units=8, **arguments), (10, 8)
    if name.startswith("gl_at"):
        arguments |= {"num_sub_clips": 2, "sub_clip_seconds": 0.8}
    width = 0.1 if "mn" in name else 1 / 32
    model = MODELS[name].build(num_classes=3, width=width, input="waveform", **arguments)
    return model, (2 * FRONT_ENDS[front_end].sample_rate,)


def trace_training_step(model, shape):
    trained = compile_model(select_training_outputs(model), TrainingConfig())
    build_optimizer(trained)
    specs = tf.TensorSpec((4, *shape), "float32"), tf.TensorSpec((4, 3), "float32")
    return trace_on_gpu(lambda x, y: trained.train_step((x, y)), *specs)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS])
def test_a_gpu_can_train_every_system_with_deterministic_operations(name):
    assert list_refused(trace_training_step(*build(name))) == []


def test_a_gpu_can_train_the_local_stream_alone():
    assert list_refused(trace_training_step(*build("gl_at_cnn10", share="none", freeze_global=True))) == []


def test_an_operation_that_a_gpu_refuses_is_noticed():
    x = tf.TensorSpec((2, 3, 4, 5))

    def normalize(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=tf.ones(5), offset=tf.zeros(5), mean=tf.zeros(5), variance=tf.ones(5), is_training=False
            )
        return tape.gradient(y, x)

    assert list_refused(trace_on_gpu(normalize, x)) == ["FusedBatchNormGradV3"]
    # The raw operation: `tf.nn` has another one where an earlier test has switched determinism on.
    nested = tf.function(lambda x: tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=x, labels=x).loss)
    assert list_refused(trace_on_gpu(lambda x: nested(x[:, 0, 0]), x)) == ["SoftmaxCrossEntropyWithLogits"]


def test_on_a_cpu_the_kernel_that_a_gpu_refuses_is_used():
    layer, x = MaskedBatchNormalization(), tf.TensorSpec((2, 5, 4))
    layer.build((2, 5, 4))

    def compute_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return tape.gradient(y, x)

    if not tf.config.list_logical_devices("GPU"):
        assert list_refused(tf.function(compute_gradient).get_concrete_function(x).graph) == ["FusedBatchNormGradV3"]
    assert list_refused(trace_on_gpu(compute_gradient, x)) == []


@pytest.mark.parametrize("mask", [None, np.arange(30).reshape(6, 5) % 3 > 0], ids=["no mask", "mask"])
def test_the_gradient_on_a_gpu_is_that_on_a_cpu(mask, monkeypatch):
    random = np.random.default_rng(0)
    x, weights = (random.normal(1, 2, (6, 5, 4)).astype("float32") for _ in range(2))
    layer = MaskedBatchNormalization()
    layer.build(x.shape)
    gradients = []
    for on_gpu in (False, True):  # the formula for a GPU runs on a CPU, too
        monkeypatch.setattr("kerastag.layers.masked_batch_normalization.may_run_on_gpu", lambda value=on_gpu: value)
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True, mask=None if mask is None else tf.constant(mask))
            loss = tf.reduce_sum(outputs * weights)
        gradients.append(tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]))
    for got, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("feature_attention", ()),
        ("segment", ("--single-segments", "true")),
        ("cnn10", ()),
        ("talnet", ()),
        ("mn", ()),
        ("gl_at", ()),
        ("gl_at", ("--precision", "mixed_float16")),
    ],
)
def test_three_steps_on_a_gpu_have_the_same_weights_twice(name, more, tmp_path, capsys):
    recipe = importlib.import_module(f"kerastag.recipes.{name}").RECIPE
    if recipe.kind == "embeddings":
        write_synthetic_packs(tmp_path, num_train=60, num_eval=30, num_classes=4)
        small = ("--units", "32")
    else:
        rate = 16_000 if name == "talnet" else 32_000
        config = SoundscapeConfig(soundscape_seconds=2.0, max_event_seconds=1.0, max_events=2)
        write_synthetic_soundscapes(tmp_path, sample_rate=rate, counts={"bal_train": 24, "eval": 12}, config=config)
        small = ("--width", "0.125", *(("--sub-clip-seconds", "1") if name == "gl_at" else ()))
    arguments = ["--data-dir", str(tmp_path), "--steps", "3", "--batch-size", "4", "--checkpoints", "1", *small, *more]
    weights = []
    for run in ("first", "second"):
        assert recipe.main([*arguments, "--run-dir", str(tmp_path / run)]) == 0, capsys.readouterr().err
        assert np.isfinite(json.loads((tmp_path / run / "metrics.json").read_text(encoding="utf-8"))["ensemble"]["map"])
        weights.append(keras.saving.load_model(tmp_path / run / "model.keras", compile=False).get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
