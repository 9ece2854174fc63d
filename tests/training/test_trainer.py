"""Tests of training: what reaches the optimizer, what a run leaves, its warnings, and averages of weights."""

import csv
from functools import partial

import keras
import numpy as np
import pytest

from kerastag.data.batches import BalancedSampler, EmbeddingBatches
from kerastag.data.packs import ConcatenatedPacks, open_pack
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.layers.fused_batch_normalization import FusedBatchNormalization
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.metrics import compute_metrics
from kerastag.models.embedding_models import decision_attention
from kerastag.training.callbacks import TrainingCallback
from kerastag.training.config import TrainingConfig, checkpoint_steps
from kerastag.training.evaluation import predict
from kerastag.training.optimization import (
    averaged_weights,
    averaging_steps,
    compile_model,
    compute_plateau_factor,
    has_finite_averages,
)
from kerastag.training.outputs import select_training_outputs
from kerastag.training.run_folder import RunFolder
from kerastag.training.state import load_state
from kerastag.training.trainer import fit


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    paths = write_synthetic_packs(folder, num_train=60, num_eval=40, num_classes=3, num_features=4)
    return {name: ConcatenatedPacks([open_pack(path)]) for name, path in paths.items()}


def build_model():
    return select_training_outputs(decision_attention(num_classes=3, num_features=4, units=4, depth=1))


def make_batches(packs, config):
    sampler = BalancedSampler(packs["bal_train"].targets, config.batch_size)
    return EmbeddingBatches(packs["bal_train"], sampler, mixup=config.mixup)


def run(packs, config, path, predict_eval=None, prior=0.0, callback=TrainingCallback, batches=None, build=build_model):
    """Train a small model and return it with its callback."""
    keras.utils.set_random_seed(config.seed)
    model = compile_model(build(), config)
    evaluation = packs["eval"]
    instance = callback(
        config,
        RunFolder.create(path, "test", config),
        predict=predict_eval or (lambda m: predict(m, evaluation)),
        evaluate=lambda predictions: compute_metrics(evaluation.targets, predictions),
        prior=prior,
    )
    return fit(model, batches or make_batches(packs, config), config, instance), instance


def learning_rates(config, steps):
    optimizer = compile_model(build_model(), config).optimizer
    values = []
    for step in steps:
        optimizer.iterations.assign(step)
        values.append(float(optimizer.learning_rate))
    return values


def test_the_learning_rate_can_be_constant_fall_as_a_cosine_and_warm_up():
    config = partial(TrainingConfig, steps=100, learning_rate=0.01)
    assert learning_rates(config(), [0, 50, 99]) == pytest.approx([0.01] * 3)
    cosine = [0.01 * 0.5 * (1 + np.cos(np.pi * step / 100)) for step in (0, 25, 50, 100)]
    assert learning_rates(config(schedule="cosine"), [0, 25, 50, 100]) == pytest.approx(cosine, abs=1e-8)
    warm = learning_rates(config(warmup_steps=20), [0, 10, 20, 90])
    assert warm[0] == pytest.approx(0.01 / 20)
    assert warm[1:] == pytest.approx([0.00525, 0.01, 0.01])
    both = learning_rates(config(schedule="cosine", warmup_steps=20), [0, 10, 20, 60, 100])
    assert both == pytest.approx([0, 0.005, 0.01, 0.005, 0], abs=1e-8)


def test_the_learning_rate_falls_on_plateaus_like_that_of_pytorch():
    """As `ReduceLROnPlateau(patience=3, factor=0.8)` with its threshold of one part in 10,000."""
    falling = list(np.linspace(1, 0.1, 30))
    assert compute_plateau_factor([]) == compute_plateau_factor(falling) == 1
    losses, factors = [1.0, 0.5, 0.49999, 0.6, 0.5, 0.7, 0.49, *[0.5] * 8], []
    for count in range(1, len(losses) + 1):
        factors.append(round(compute_plateau_factor(losses[:count]), 4))
    assert factors == [*[1.0] * 5, 0.8, 0.8, *[0.8] * 3, *[0.64] * 4, 0.512]


@pytest.mark.parametrize("stop", [None, 95])
def test_a_run_that_does_not_learn_decreases_its_learning_rate_and_is_resumed_with_it(stop, packs, tmp_path):
    # The rate is so low that the loss of an interval of four steps is noise.
    config = TrainingConfig(steps=120, batch_size=12, schedule="plateau", learning_rate=1e-9, checkpoints=1)
    if stop:

        class Interruption(TrainingCallback):
            def on_train_batch_end(self, batch, logs=None):
                super().on_train_batch_end(batch, logs)
                if self.step == stop:
                    self._save()
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(packs, config, tmp_path, callback=Interruption)
    model, callback = run(packs, config, tmp_path)
    losses = callback._interval_losses[:-1]
    assert len(losses) == 30
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-9 * compute_plateau_factor(losses))
    assert 0.2 < compute_plateau_factor(losses) < 1


def test_the_configuration_reaches_the_optimizer_and_the_loss():
    config = TrainingConfig(weight_decay=0.04, ema=0.98, label_smoothing=0.1, learning_rate=0.02, amsgrad=True)
    model = compile_model(build_model(), config)
    assert model.optimizer.amsgrad
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert (model.optimizer.weight_decay, model.optimizer.use_ema, model.optimizer.ema_momentum) == (0.04, True, 0.98)
    y, p = np.array([[1.0, 0.0]]), np.array([[0.8, 0.3]])
    smooth = y * 0.9 + 0.05
    expected = -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p)).mean()
    assert float(model.loss(y, p)) == pytest.approx(expected, rel=1e-5)
    published = compile_model(build_model(), TrainingConfig())
    optimizer = published.optimizer
    assert (optimizer.weight_decay, optimizer.use_ema, optimizer.amsgrad) == (None, False, False)
    assert float(published.loss(y, p)) == pytest.approx(-(np.log(0.8) + np.log(0.7)) / 2, rel=1e-5)


@pytest.mark.parametrize(("momentum", "expected"), [(None, (0.99, 0.8)), (0.5, (0.5, 0.5))])
def test_every_batch_normalization_gets_the_configured_momentum(momentum, expected):
    inputs = keras.Input((4,))
    masked, plain = MaskedBatchNormalization(), keras.layers.BatchNormalization(momentum=0.8)
    inner = keras.Sequential([plain])
    outputs = keras.layers.Dense(2, activation="sigmoid")(masked(inputs) + inner(inputs))
    model = compile_model(keras.Model(inputs, outputs), TrainingConfig(batch_norm_momentum=momentum))
    x = np.random.default_rng(0).normal(3.0, 1.0, (64, 4)).astype(np.float32)
    model.train_on_batch(x, np.zeros((64, 2)))
    for layer, value in zip((masked, plain), expected, strict=True):
        mean = keras.ops.convert_to_numpy(layer.moving_mean)
        np.testing.assert_allclose(mean, (1 - value) * x.mean(axis=0), rtol=1e-4)


def test_frozen_layers_do_not_count_in_the_averaging_steps():
    model = keras.Sequential([keras.layers.BatchNormalization(momentum=m) for m in (0.8, 0.99)])
    assert averaging_steps(model) == pytest.approx(100)
    model.layers[1].trainable = False
    assert averaging_steps(model) == pytest.approx(5)
    assert averaging_steps(keras.Sequential([keras.layers.Dense(2)])) == 0


@pytest.mark.parametrize(
    ("steps", "momentum", "averaging"), [(12, None, 100), (12, 0.9, 10), (12, 0.5, None), (10, None, None)]
)
def test_moving_averages_over_more_than_a_fifth_of_the_steps_are_warned_about(
    packs, tmp_path, capsys, steps, momentum, averaging
):
    config = TrainingConfig(
        steps=steps, batch_size=12, evaluate_every=steps, checkpoints=1, batch_norm_momentum=momentum
    )
    run(packs, config, tmp_path)
    errors = capsys.readouterr().err
    if averaging is None:
        assert "batch_norm_momentum" not in errors
    else:
        assert f"reach over {averaging} steps, but training has only {steps}; decrease `batch_norm_momentum`" in errors


@pytest.fixture(scope="module")
def finished(packs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = TrainingConfig(steps=20, batch_size=12, evaluate_every=6, checkpoints=3, save_every=7, mixup=0.5)
    model, callback = run(packs, config, folder)
    return folder, config, model, callback


def test_the_log_has_a_row_for_every_evaluation(finished):
    folder, *_ = finished
    with (folder / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [4, 6, 12, 18, 20]  # checkpoints at 4, 12 and 20
    assert [row["checkpoints"] for row in rows] == ["1", "", "2", "", "3"]
    assert all((row["ensemble_mAP"] != "") == (row["checkpoints"] != "") for row in rows)
    for row in rows:
        assert 0 < float(row["mAP"]) <= 1
        assert 0 < float(row["mAUC"]) <= 1
        assert 0 < float(row["loss"]) < 5
    assert list((folder / "tensorboard").iterdir())


def test_the_loss_of_a_row_is_the_mean_since_the_previous_row(packs, tmp_path):
    class Losses(TrainingCallback):
        def on_train_batch_end(self, batch, logs=None):
            # Keras reports the mean so far, from which the loss of each step follows.
            total = logs["loss"] * (batch + 1)
            self.losses = [*getattr(self, "losses", []), total - sum(getattr(self, "losses", []))]
            super().on_train_batch_end(batch, logs)

    config = TrainingConfig(steps=10, batch_size=12, evaluate_every=4, checkpoints=1)
    _, callback = run(packs, config, tmp_path, callback=Losses)
    expected = [np.mean(callback.losses[:4]), np.mean(callback.losses[4:8]), np.mean(callback.losses[8:])]
    assert [row["loss"] for row in callback.rows] == pytest.approx(expected, rel=1e-4)


def test_progress_goes_to_standard_error(packs, tmp_path, capsys):
    run(packs, TrainingConfig(steps=4, batch_size=12, evaluate_every=2, checkpoints=1), tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[1] for line in err.splitlines() if line.startswith("step ")] == ["2", "4"]


def test_the_ensemble_is_the_mean_of_the_predictions_of_the_checkpoint_files(finished, packs):
    folder, config, _, callback = finished
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == [f"step_{step:06d}.weights.h5" for step in checkpoint_steps(config)]
    model, predictions = build_model(), []
    for name in names:
        model.load_weights(folder / "checkpoints" / name)
        predictions.append(predict(model, packs["eval"]))
    np.testing.assert_allclose(callback.ensemble.mean(), np.mean(predictions, axis=0), atol=1e-6)
    np.testing.assert_allclose(callback.ensemble.last, predictions[-1], atol=1e-6)
    assert callback.rows[-1]["ensemble_mAP"] == pytest.approx(
        compute_metrics(packs["eval"].targets, np.mean(predictions, axis=0)).map, abs=1e-6
    )


def test_a_finished_run_has_no_steps_left(finished, packs, capsys):
    folder, config, model, first = finished
    loaded, callback = run(packs, config, folder)
    assert "resumed at step 20 of 20" in capsys.readouterr().err
    assert callback.rows == first.rows
    np.testing.assert_array_equal(callback.ensemble.mean(), first.ensemble.mean())
    for actual, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_averaged_weights_are_evaluated_and_saved_as_the_model(packs, tmp_path, precision):
    class Steps(TrainingCallback):
        """Stores a kernel after every step."""

        def on_train_batch_end(self, batch, logs=None):
            self.kernels = [*getattr(self, "kernels", []), np.array(self.model.trainable_variables[-2])]
            super().on_train_batch_end(batch, logs)

    evaluated = []

    def predict_eval(model):
        evaluated.append(np.array(model.trainable_variables[-2]))
        return predict(model, packs["eval"])

    keras.config.set_dtype_policy(precision)
    config = TrainingConfig(
        steps=8, batch_size=12, evaluate_every=4, checkpoints=1, ema=0.8, learning_rate=0.05, precision=precision
    )
    model, callback = run(packs, config, tmp_path, predict_eval, callback=Steps)
    average = callback.kernels[0]
    for step, kernel in enumerate(callback.kernels[1:], start=2):
        average = 0.8 * average + 0.2 * kernel
        if step in (4, 8):
            # float16 training skips the update of a step whose scaled gradients overflow; its averages still move.
            atol = 1e-3 if precision == "float32" else 0.05
            np.testing.assert_allclose(evaluated[step // 4 - 1], average, atol=atol)
            assert np.abs(evaluated[step // 4 - 1] - kernel).max() > 1e-3
    np.testing.assert_array_equal(np.array(model.trainable_variables[-2]), evaluated[1])
    # The state holds the weights themselves, from which training continues.
    other = compile_model(build_model(), config)
    load_state(tmp_path / "state.npz", other)
    np.testing.assert_array_equal(np.array(other.trainable_variables[-2]), callback.kernels[-1])
    with averaged_weights(other):
        np.testing.assert_array_equal(np.array(other.trainable_variables[-2]), evaluated[1])
    np.testing.assert_array_equal(np.array(other.trainable_variables[-2]), callback.kernels[-1])


def build_image_model():
    """Build a model with ReLU directly after batch normalization, which TensorFlow fuses on a CPU."""
    embedding = keras.Input((10, 4))
    x = keras.layers.Dense(16)(keras.layers.Reshape((10, 4, 1))(embedding))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(FusedBatchNormalization()(x)))
    return keras.Model(embedding, keras.layers.Dense(3, activation="sigmoid")(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (build_model, "the loss is not finite at step 5: decrease `learning_rate`"),
        (build_image_model, "(the loss is|the moving averages .* are) not finite at step 5: decrease `learning_rate`"),
    ],
)
def test_a_loss_or_moving_average_that_is_not_finite_stops_the_run(build, message, packs, tmp_path):
    class BrokenBatches(EmbeddingBatches):
        def batch(self, index):
            x, y = super().batch(index)
            return (np.full_like(x, np.nan) if index == 4 else x), y

    config = TrainingConfig(steps=10, batch_size=12, save_every=2, checkpoints=1)
    batches = BrokenBatches(packs["bal_train"], BalancedSampler(packs["bal_train"].targets, 12))
    with pytest.raises(FloatingPointError, match=message):
        run(packs, config, tmp_path, batches=batches, build=build)
    assert load_state(tmp_path / "state.npz", compile_model(build(), config))["step"] == 4


def test_a_single_moving_average_that_is_not_finite_is_detected_in_nested_layers():
    model = build_image_model()
    assert has_finite_averages(model)
    model.layers[3].moving_variance.assign(np.where(np.arange(16) == 7, np.inf, 1))
    assert not has_finite_averages(keras.Sequential([keras.Input((10, 4)), model]))


def test_a_model_that_does_not_learn_is_warned_about(packs, tmp_path, capsys):
    targets = packs["eval"].targets
    prior = float(targets.mean(axis=0).mean())
    config = TrainingConfig(steps=110, batch_size=4, evaluate_every=105, checkpoints=1)
    for constant, warned in ((True, True), (False, False)):
        run(
            packs,
            config,
            tmp_path / str(constant),
            predict_eval=lambda m, constant=constant: np.zeros_like(targets, float) if constant else targets * 1.0,
            prior=prior,
        )
        assert ("is close to that of a random guess" in capsys.readouterr().err) == warned
