"""The Keras metrics equal the exact metrics of rounded scores, in `fit` and `evaluate`, on TensorFlow and JAX."""

import importlib.util
import inspect
import json

import keras
import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import average_precision_score, roc_auc_score

import kerastag
from checks import run_python
from kerastag.metrics import DPrime, MeanAveragePrecision, compute_d_prime, compute_metrics

BOTH = pytest.mark.parametrize("metric_class", [MeanAveragePrecision, DPrime])


def make_problem(num_clips=300, num_classes=7, seed=0):
    """Targets and probabilities, many of them close to 0, of classes from rare to frequent."""
    random = np.random.default_rng(seed)
    y_true = random.random((num_clips, num_classes)) < np.linspace(0.02, 0.5, num_classes)
    y_true[0], y_true[1] = True, False
    y_score = 1 / (1 + np.exp(6 - 3 * y_true - 2 * random.standard_normal(y_true.shape)))
    return y_true.astype("float32"), y_score.astype("float32")


def round_to_bins(y_score, num_bins):
    position = 0.5 - logit(np.clip(y_score.astype(np.float64), 1e-7, 1 - 1e-7)) / (2 * logit(1 - 1e-7))
    return -np.clip(np.floor(position * num_bins), 0, num_bins - 1)


def get_value(metric, metrics):
    return {"map": metrics.map, "d_prime": metrics.d_prime}[metric.name]


def compute_in_batches(metric, y_true, y_score, sample_weight=None, size=64):
    metric.reset_state()
    for start in range(0, len(y_true), size):
        rows = slice(start, start + size)
        metric.update_state(y_true[rows], y_score[rows], None if sample_weight is None else sample_weight[rows])
    return float(metric.result())


@BOTH
@pytest.mark.parametrize("num_bins", [10, 1000])
def test_the_result_is_that_of_scores_rounded_to_bins(metric_class, num_bins):
    y_true, y_score = make_problem()
    metric = metric_class(num_bins)
    expected = get_value(metric, compute_metrics(y_true, round_to_bins(y_score, num_bins)))
    assert compute_in_batches(metric, y_true, y_score) == pytest.approx(expected, abs=2e-5)


@BOTH
def test_a_thousand_bins_are_close_to_the_exact_metrics(metric_class):
    y_true, y_score = make_problem(2000)
    metric = metric_class()
    assert compute_in_batches(metric, y_true, y_score) == pytest.approx(
        get_value(metric, compute_metrics(y_true, y_score)), abs=0.003
    )


@BOTH
def test_classes_without_positives_or_negatives_are_skipped(metric_class):
    y_true, y_score = make_problem()
    y_true[:, 2], y_true[:, 4] = 0, 1
    metric = metric_class()
    expected = get_value(metric, compute_metrics(y_true, round_to_bins(y_score, 1000)))
    assert compute_in_batches(metric, y_true, y_score) == pytest.approx(expected, abs=2e-5)


@BOTH
def test_the_result_is_0_where_every_class_is_skipped(metric_class):
    metric = metric_class()
    assert float(metric.result()) == 0
    assert compute_in_batches(metric, np.zeros((4, 2)), np.full((4, 2), 0.5)) == 0


def test_perfect_scores_have_an_infinite_d_prime():
    y_true, _ = make_problem()
    assert compute_in_batches(DPrime(), y_true, y_true) == np.inf
    assert compute_in_batches(MeanAveragePrecision(), y_true, y_true) == 1
    assert compute_in_batches(DPrime(), y_true, np.full_like(y_true, 0.5)) == 0


@BOTH
def test_a_state_that_is_reset_starts_again(metric_class):
    y_true, y_score = make_problem()
    metric = metric_class()
    first = compute_in_batches(metric, y_true, y_score)
    compute_in_batches(metric, y_true, 1 - y_score)
    assert compute_in_batches(metric, y_true, y_score) == first
    metric.reset_state()
    assert float(metric.result()) == 0


@pytest.mark.parametrize("per_class", [False, True])
def test_weights_are_those_of_scikit_learn(per_class):
    y_true, y_score = make_problem()
    weight = np.random.default_rng(1).uniform(0, 2, y_true.shape if per_class else len(y_true)).astype("float32")
    rounded = round_to_bins(y_score, 1000)
    weights = weight.T if per_class else [weight] * y_true.shape[1]
    columns = list(zip(y_true.T, rounded.T, weights, strict=True))
    precision = np.mean([average_precision_score(t, s, sample_weight=w) for t, s, w in columns])
    auc = np.mean([roc_auc_score(t, s, sample_weight=w) for t, s, w in columns])
    assert compute_in_batches(MeanAveragePrecision(), y_true, y_score, weight) == pytest.approx(precision, abs=2e-5)
    assert compute_in_batches(DPrime(), y_true, y_score, weight) == pytest.approx(compute_d_prime(auc), abs=2e-5)


@BOTH
def test_a_weight_of_0_removes_a_clip_and_a_weight_of_2_counts_it_twice(metric_class):
    y_true, y_score = make_problem()
    weight = np.random.default_rng(1).integers(0, 3, (len(y_true), 1))
    repeated = [np.repeat(array, weight[:, 0], axis=0) for array in (y_true, y_score)]
    metric = metric_class()
    assert compute_in_batches(metric, y_true, y_score, weight) == pytest.approx(
        compute_in_batches(metric, *repeated), abs=1e-6
    )


@BOTH
def test_a_fractional_target_counts_as_a_share_of_a_positive(metric_class):
    y_true, y_score = make_problem()
    metric = metric_class()
    mixed = compute_in_batches(metric, 0.75 * y_true + 0.25, y_score)
    twice = [np.concatenate(arrays) for arrays in ((y_true, np.ones_like(y_true)), (y_score, y_score))]
    weight = np.repeat([0.75, 0.25], len(y_true))
    assert mixed == pytest.approx(compute_in_batches(metric, *twice, weight), abs=1e-5)


@BOTH
def test_a_metric_is_serialized_with_its_arguments(metric_class):
    metric = metric_class(num_bins=50, name="mine", dtype="float32")
    text = json.dumps(keras.saving.serialize_keras_object(metric))
    assert f"kerastag>{metric_class.__name__}" in text
    restored = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(restored) is metric_class
    assert restored.get_config() == metric.get_config()


def test_a_compiled_model_is_saved_with_its_metrics(tmp_path):
    y_true, y_score = make_problem()
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(7, activation="sigmoid")])
    model.compile(loss="binary_crossentropy", metrics=[MeanAveragePrecision(), DPrime()])
    model.fit(y_score, y_true, verbose=0)
    before = model.evaluate(y_score, y_true, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(y_score, y_true, verbose=0, return_dict=True) == pytest.approx(before)


@pytest.mark.parametrize(("num_bins", "received"), [(1, "1"), (2.5, "2.5")])
def test_bins_out_of_range_are_rejected(num_bins, received):
    with pytest.raises(ValueError, match=f"`num_bins` must be an integer of at least 2; received: {received}"):
        MeanAveragePrecision(num_bins)


def test_other_shapes_are_rejected():
    metric = DPrime()
    with pytest.raises(ValueError, match=r"must both be \(batch, classes\); received: shapes \(4,\) and \(4, 2\)"):
        metric.update_state(np.zeros(4), np.zeros((4, 2)))
    metric.update_state(np.zeros((4, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="`y_pred` must have 2 classes; received: 3"):
        metric.update_state(np.zeros((4, 3)), np.zeros((4, 3)))


def train():
    import keras
    import numpy as np

    import kerastag

    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.standard_normal((250, 12)).astype("float32")
    y = (x[:, :5] + 0.8 * random.standard_normal((250, 5)) > 1).astype("float32")
    y[:, 4] = 0
    inputs = keras.Input((12,))
    outputs = {"clipwise": keras.layers.Dense(5, activation="sigmoid", name="clipwise")(inputs)}
    model = keras.Model(inputs, outputs)
    metrics = [kerastag.metrics.MeanAveragePrecision(), kerastag.metrics.DPrime()]
    model.compile("adam", {"clipwise": "binary_crossentropy"}, metrics={"clipwise": metrics})
    targets = {"clipwise": y}
    logs = model.fit(x, targets, batch_size=64, epochs=2, validation_data=(x, targets), verbose=0).history
    evaluated = model.evaluate(x, targets, batch_size=32, verbose=0, return_dict=True)
    exact = kerastag.metrics.compute_metrics(y, model.predict(x, verbose=0)["clipwise"])
    return {
        "backend": keras.backend.backend(),
        "trained": [logs["map"][-1], logs["d_prime"][-1]],
        "validated": [logs["val_map"][-1], logs["val_d_prime"][-1]],
        "evaluated": [evaluated["map"], evaluated["d_prime"]],
        "exact": [exact.map, exact.d_prime],
    }


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_they_work_in_fit_and_evaluate(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    if backend == keras.backend.backend():
        result = train()
    else:
        code = f"import json\n{inspect.getsource(train)}\nprint(json.dumps(train()))"
        result = json.loads(run_python(code, env={"KERAS_BACKEND": backend}, timeout=300).splitlines()[-1])
    assert result["backend"] == backend
    assert result["evaluated"] == pytest.approx(result["exact"], abs=0.01)
    assert result["validated"] == pytest.approx(result["evaluated"], abs=1e-5)
    assert 0 < result["trained"][0] < 1


def test_they_are_exported_lazily():
    assert kerastag.metrics.MeanAveragePrecision is MeanAveragePrecision
    with pytest.raises(AttributeError, match="no attribute 'MeanAveragePrecison'"):
        _ = kerastag.metrics.MeanAveragePrecison
