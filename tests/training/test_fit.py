"""`fit`: what reaches the optimizer, what a run leaves behind, its alarms, and averages of weights."""

import csv
from functools import partial

import keras
import numpy as np
import pytest

from kerastag.data.batches import EmbeddingBatches
from kerastag.data.keras_sequence import KerasBatches
from kerastag.data.packs import ConcatenatedPacks, FeaturePack
from kerastag.data.sampler import BalancedSampler
from kerastag.data.synthetic import write_synthetic_packs
from kerastag.layers.fused_batch_normalization import FusedBatchNormalization
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.metrics import compute_metrics
from kerastag.models.embedding_models import decision_attention
from kerastag.training.evaluation import predict
from kerastag.training.fit import RunCallback, averaged_weights, averages_are_finite, batch_norm_memory, compiled, fit
from kerastag.training.outputs import select_training_outputs
from kerastag.training.settings import TrainingSettings
from kerastag.training.state import load_state


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    written = write_synthetic_packs(folder, num_train=60, num_eval=40, num_classes=3, num_features=4)
    return {name: ConcatenatedPacks([FeaturePack(path)]) for name, path in written.items()}


def network():
    return select_training_outputs(decision_attention(num_classes=3, num_features=4, units=4, depth=1))


def run(packs, settings, folder, predictions=None, prior=0.0, callback=RunCallback, batches=None, network=network):
    """A small run -> its model and callback."""
    keras.utils.set_random_seed(settings.seed)
    model = compiled(network(), settings)
    evaluation = packs["eval"]
    done = callback(
        settings,
        folder,
        predictions=predictions or (lambda m: predict(m, evaluation)),
        measure=lambda probabilities: compute_metrics(evaluation.targets, probabilities),
        prior=prior,
    )
    made = EmbeddingBatches(
        packs["bal_train"], BalancedSampler(packs["bal_train"].targets, settings.batch_size), mixup=settings.mixup
    )
    return fit(model, batches or partial(KerasBatches, made), settings, done), done


def rates(settings, steps):
    optimizer = compiled(network(), settings).optimizer
    found = []
    for step in steps:
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return found


def test_the_learning_rate_is_constant_cosine_and_warmed_up():
    settings = partial(TrainingSettings, steps=100, learning_rate=0.01)
    assert rates(settings(), [0, 50, 99]) == pytest.approx([0.01] * 3)
    cosine = [0.01 * 0.5 * (1 + np.cos(np.pi * step / 100)) for step in (0, 25, 50, 100)]
    assert rates(settings(schedule="cosine"), [0, 25, 50, 100]) == pytest.approx(cosine, abs=1e-8)
    warm = rates(settings(warmup_steps=20), [0, 10, 20, 90])
    assert warm[0] == pytest.approx(0.01 / 20)
    assert warm[1:] == pytest.approx([0.00525, 0.01, 0.01])
    both = rates(settings(schedule="cosine", warmup_steps=20), [0, 10, 20, 60, 100])
    assert both == pytest.approx([0, 0.005, 0.01, 0.005, 0], abs=1e-8)


def test_settings_reach_the_optimizer_and_the_loss():
    model = compiled(network(), TrainingSettings(weight_decay=0.04, ema=0.98, label_smoothing=0.1, learning_rate=0.02))
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert (model.optimizer.weight_decay, model.optimizer.use_ema, model.optimizer.ema_momentum) == (0.04, True, 0.98)
    y, p = np.array([[1.0, 0.0]]), np.array([[0.8, 0.3]])
    smooth = y * 0.9 + 0.05
    expected = -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p)).mean()
    assert float(model.loss(y, p)) == pytest.approx(expected, rel=1e-5)
    published = compiled(network(), TrainingSettings())
    assert (published.optimizer.weight_decay, published.optimizer.use_ema) == (None, False)
    assert float(published.loss(y, p)) == pytest.approx(-(np.log(0.8) + np.log(0.7)) / 2, rel=1e-5)


@pytest.mark.parametrize(("asked", "expected"), [(None, (0.99, 0.8)), (0.5, (0.5, 0.5))])
def test_every_batch_norm_keeps_the_share_of_its_averages_that_is_asked_for(asked, expected):
    inputs = keras.Input((4,))
    masked, plain = MaskedBatchNormalization(), keras.layers.BatchNormalization(momentum=0.8)
    inner = keras.Sequential([plain])
    outputs = keras.layers.Dense(2, activation="sigmoid")(masked(inputs) + inner(inputs))
    model = compiled(keras.Model(inputs, outputs), TrainingSettings(batch_norm_momentum=asked))
    x = np.random.default_rng(0).normal(3.0, 1.0, (64, 4)).astype(np.float32)
    model.train_on_batch(x, np.zeros((64, 2)))
    for layer, momentum in zip((masked, plain), expected, strict=True):
        mean = keras.ops.convert_to_numpy(layer.moving_mean)
        np.testing.assert_allclose(mean, (1 - momentum) * x.mean(axis=0), rtol=1e-4)


def test_what_freezes_has_no_say_in_how_far_averages_go_back():
    model = keras.Sequential([keras.layers.BatchNormalization(momentum=m) for m in (0.8, 0.99)])
    assert batch_norm_memory(model) == pytest.approx(100)
    model.layers[1].trainable = False
    assert batch_norm_memory(model) == pytest.approx(5)
    assert batch_norm_memory(keras.Sequential([keras.layers.Dense(2)])) == 0


@pytest.mark.parametrize(
    ("steps", "momentum", "memory"), [(12, None, 100), (12, 0.9, 10), (12, 0.5, None), (10, None, None)]
)
def test_averages_that_go_back_further_than_a_fifth_of_the_steps_are_said(
    packs, tmp_path, capsys, steps, momentum, memory
):
    settings = TrainingSettings(
        steps=steps, batch_size=12, evaluate_every=steps, checkpoints=1, batch_norm_momentum=momentum
    )
    run(packs, settings, tmp_path)
    said = capsys.readouterr().err
    if memory is None:
        assert "batch_norm_momentum" not in said
    else:
        assert (
            f"go back {memory} steps and training has {steps}: with a lower `batch_norm_momentum` they follow" in said
        )


@pytest.fixture(scope="module")
def finished(packs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = TrainingSettings(steps=20, batch_size=12, evaluate_every=6, checkpoints=3, save_every=7, mixup=0.5)
    model, done = run(packs, settings, folder)
    return folder, settings, model, done


def test_the_log_has_a_row_for_every_evaluation(finished):
    folder, *_ = finished
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [4, 6, 12, 18, 20]  # checkpoints at 4, 12 and 20
    assert [row["checkpoints"] for row in rows] == ["1", "", "2", "", "3"]
    assert all((row["ensemble_mAP"] != "") == (row["checkpoints"] != "") for row in rows)
    for row in rows:
        assert 0 < float(row["mAP"]) <= 1
        assert 0 < float(row["mAUC"]) <= 1
        assert 0 < float(row["loss"]) < 5
    assert list((folder / "tensorboard").iterdir())


def test_the_loss_of_a_row_is_the_mean_since_the_row_before(packs, tmp_path):
    class Losses(RunCallback):
        def on_train_batch_end(self, batch, logs=None):
            # Keras gives the mean so far: from it, each step's own.
            total = logs["loss"] * (batch + 1)
            self.own = [*getattr(self, "own", []), total - sum(getattr(self, "own", []))]
            super().on_train_batch_end(batch, logs)

    settings = TrainingSettings(steps=10, batch_size=12, evaluate_every=4, checkpoints=1)
    _, done = run(packs, settings, tmp_path, callback=Losses)
    found = [row["loss"] for row in done.rows]
    expected = [np.mean(done.own[:4]), np.mean(done.own[4:8]), np.mean(done.own[8:])]
    assert found == pytest.approx(expected, rel=1e-4)


def test_progress_goes_to_standard_error(packs, tmp_path, capsys):
    run(packs, TrainingSettings(steps=4, batch_size=12, evaluate_every=2, checkpoints=1), tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[1] for line in err.splitlines() if line.startswith("step ")] == ["2", "4"]


def test_the_ensemble_is_the_mean_of_what_the_checkpoint_files_predict(finished, packs):
    folder, settings, _, done = finished
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == [f"step_{step:06d}.weights.h5" for step in settings.checkpoint_steps()]
    model, predictions = network(), []
    for name in names:
        model.load_weights(folder / "checkpoints" / name)
        predictions.append(predict(model, packs["eval"]))
    np.testing.assert_allclose(done.ensemble.mean(), np.mean(predictions, axis=0), atol=1e-6)
    np.testing.assert_allclose(done.last, predictions[-1], atol=1e-6)
    assert done.rows[-1]["ensemble_mAP"] == pytest.approx(
        compute_metrics(packs["eval"].targets, np.mean(predictions, axis=0)).map, abs=1e-6
    )


def test_a_finished_run_goes_on_with_nothing(finished, packs, capsys):
    folder, settings, model, done = finished
    again, callback = run(packs, settings, folder)
    assert "resumed at step 20 of 20" in capsys.readouterr().err
    assert callback.rows == done.rows
    np.testing.assert_array_equal(callback.ensemble.mean(), done.ensemble.mean())
    for got, wanted in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_moving_averages_are_measured_and_are_the_final_model(packs, tmp_path, precision):
    class Steps(RunCallback):
        """Keeps a kernel after every step, and what is measured."""

        def on_train_batch_end(self, batch, logs=None):
            self.own = [*getattr(self, "own", []), np.array(self.model.trainable_variables[-2])]
            super().on_train_batch_end(batch, logs)

    measured = {}

    def predictions(model):
        measured[int(model.optimizer.iterations)] = np.array(model.trainable_variables[-2])
        return predict(model, packs["eval"])

    keras.config.set_dtype_policy(precision)
    settings = TrainingSettings(
        steps=8, batch_size=12, evaluate_every=4, checkpoints=1, ema=0.8, learning_rate=0.05, precision=precision
    )
    model, done = run(packs, settings, tmp_path, predictions, callback=Steps)
    average = done.own[0]
    for step, kernel in enumerate(done.own[1:], start=2):
        average = 0.8 * average + 0.2 * kernel
        if step in (4, 8):
            # float16 training skips the update of a step whose scaled gradients overflow; its averages still move.
            np.testing.assert_allclose(done_at(measured, step), average, atol=1e-3 if precision == "float32" else 0.05)
            assert np.abs(done_at(measured, step) - kernel).max() > 1e-3
    np.testing.assert_array_equal(np.array(model.trainable_variables[-2]), done_at(measured, 8))
    # The state has the weights themselves, from which training goes on.
    other = compiled(network(), settings)
    load_state(tmp_path / "state.npz", other)
    np.testing.assert_array_equal(np.array(other.trainable_variables[-2]), done.own[-1])
    with averaged_weights(other):
        np.testing.assert_array_equal(np.array(other.trainable_variables[-2]), done_at(measured, 8))
    np.testing.assert_array_equal(np.array(other.trainable_variables[-2]), done.own[-1])


def done_at(measured, step):
    """What was measured in the evaluation of that step: they come in order."""
    return list(measured.values())[0 if step == 4 else 1]


def image_network():
    """Batch normalization with ReLU at once behind it, which TensorFlow joins on a CPU."""
    embedding = keras.Input((10, 4))
    x = keras.layers.Dense(16)(keras.layers.Reshape((10, 4, 1))(embedding))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(FusedBatchNormalization()(x)))
    return keras.Model(embedding, keras.layers.Dense(3, activation="sigmoid")(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network, "the loss is not finite at step 5: lower `learning_rate`"),
        (image_network, "(the loss is|BatchNorm's averages are) not finite at step 5: lower `learning_rate`"),
    ],
)
def test_what_is_not_finite_stops_the_run(model, message, packs, tmp_path):
    class Broken(KerasBatches):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return (np.full_like(x, np.nan) if self.start + index == 4 else x), y

    made = EmbeddingBatches(packs["bal_train"], BalancedSampler(packs["bal_train"].targets, 12))
    settings = TrainingSettings(steps=10, batch_size=12, save_every=2, checkpoints=1)
    with pytest.raises(FloatingPointError, match=message):
        run(packs, settings, tmp_path, batches=partial(Broken, made), network=model)
    # What was saved last is from before.
    assert load_state(tmp_path / "state.npz", compiled(model(), settings))["step"] == 4


def test_one_average_that_is_not_a_number_is_found_wherever_it_is():
    model = image_network()
    assert averages_are_finite(model)
    model.layers[3].moving_variance.assign(np.where(np.arange(16) == 7, np.inf, 1))
    assert not averages_are_finite(keras.Sequential([keras.Input((10, 4)), model]))


def test_a_model_that_learns_nothing_is_warned_of(packs, tmp_path, capsys):
    targets = packs["eval"].targets
    prior = float(targets.mean(axis=0).mean())
    settings = TrainingSettings(steps=110, batch_size=4, evaluate_every=105, checkpoints=1)
    for constant, warned in ((True, True), (False, False)):
        run(
            packs,
            settings,
            tmp_path / str(constant),
            predictions=lambda m, constant=constant: np.zeros_like(targets, float) if constant else targets * 1.0,
            prior=prior,
        )
        assert ("is that of a guess" in capsys.readouterr().err) == warned
