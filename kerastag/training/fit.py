"""`model.fit` with checkpoints, evaluation on the way, early alarm and exact resume."""

import csv
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag.files import write_atomically
from kerastag.metrics import Metrics
from kerastag.training.devices import scope_of
from kerastag.training.evaluation import CheckpointMean, without_optimizer
from kerastag.training.fused_adam import FusedAdam
from kerastag.training.logs import ScalarLog
from kerastag.training.settings import TrainingSettings
from kerastag.training.state import build_optimizer, load_state, save_state
from kerastag.training.stream_loss import StreamLoss

Batches = Callable[[int, int], Any]
Predictions = Callable[[keras.Model], np.ndarray]
_ALARM_AFTER = 0.1  # of the steps: by then a model that learns has left its prior
_TRIAL = 10  # steps: so short a run, such as `--smoke`, only shows that everything works
_LAG = 0.2  # of the steps: where BatchNorm's averages go back further, a model is measured with those of another


def set_batch_norm_momentum(model: keras.Model, momentum: float) -> None:
    """Let a step leave this share, in [0, 1), of the moving averages of every BatchNorm in place."""
    for layer in _batch_norms(model):
        layer.momentum = momentum


def batch_norm_memory(model: keras.Model) -> float:
    """A model -> over how many steps the slowest moving average of a BatchNorm that learns goes back; 0 without one."""
    return max((1 / (1 - layer.momentum) for layer in _batch_norms(model) if layer.trainable), default=0.0)


def averages_are_finite(model: keras.Model) -> bool:
    """Whether the moving averages of every BatchNorm are numbers.

    Where they are not, the loss may still be one: TensorFlow joins ReLU to what stands before it, and on a CPU its
    kernels for both make 0 of NaN.
    """
    averages = (average for layer in _batch_norms(model) for average in (layer.moving_mean, layer.moving_variance))
    return all(np.isfinite(np.asarray(average)).all() for average in averages)


def _batch_norms(model: keras.Model) -> list[Any]:
    return [layer for layer in model._flatten_layers() if hasattr(layer, "moving_variance")]


def compiled(model: keras.Model, settings: TrainingSettings) -> keras.Model:
    """A model -> the model with Adam and the binary cross-entropy on the clip, of each of its streams."""
    if settings.batch_norm_momentum is not None:
        set_batch_norm_momentum(model, settings.batch_norm_momentum)
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if settings.warmup_steps else rate,
            settings.steps - settings.warmup_steps,
            warmup_target=rate if settings.warmup_steps else None,
            warmup_steps=settings.warmup_steps,
        )
    elif settings.warmup_steps:
        rate = keras.optimizers.schedules.PolynomialDecay(rate / settings.warmup_steps, settings.warmup_steps, rate)
    average = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
    with scope_of(model):  # an optimizer belongs to the devices that it is made for
        optimizer = FusedAdam(rate, weight_decay=settings.weight_decay or None, **average)
        model.compile(optimizer, StreamLoss(label_smoothing=settings.label_smoothing))
    return model


class RunCallback(keras.callbacks.Callback):
    """What happens between two steps of a run: states, checkpoints, evaluations, alarms.

    Args:
        settings: of the run.
        folder: where `state.npz`, `checkpoints/` and `log.csv` go.
        predictions: function of the model that gives the probabilities to measure.
        measure: function of probabilities that gives their `Metrics`.
        prior: mAP of a guess, for the alarm.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        folder: Path,
        predictions: Predictions,
        measure: Callable[[np.ndarray], Metrics],
        prior: float,
    ) -> None:
        super().__init__()
        self.settings, self.folder, self.prior = settings, folder, prior
        self.predictions, self.measure = predictions, measure
        self.step, self.seconds = 0, 0.0
        self._loss_sum, self._loss_steps = 0.0, 0  # of the steps since the last row
        self.rows: list[dict[str, Any]] = []
        self.last: np.ndarray | None = None

    def restore(self, model: keras.Model) -> None:
        """Go on from the saved state, if there is one."""
        self.ensemble = CheckpointMean(model, self.predictions)
        path = self.folder / "state.npz"
        if not path.exists():
            return
        progress = load_state(path, model)
        self.step, self.seconds, self.rows = progress["step"], progress["seconds"], progress["rows"]
        self._loss_sum, self._loss_steps = progress.get("loss_sum", 0.0), progress.get("loss_steps", 0)
        self.ensemble.add_files([self.checkpoint(step) for step in self._checkpoints() if step <= self.step])
        print(f"resumed at step {self.step:,} of {self.settings.steps:,}", file=sys.stderr)

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"step_{step:06d}.weights.h5"

    def on_train_begin(self, logs: Any = None) -> None:
        self._log = ScalarLog(self.folder, self.step)
        self._clock = time.perf_counter()
        self._process_sum = 0.0
        self._bar = _progress_bar(self.settings.steps, self.step)
        memory, steps = batch_norm_memory(self.model), self.settings.steps
        if memory > _LAG * steps and steps > _TRIAL:
            self._say(
                f"warning: BatchNorm's averages, which the model is measured with, go back {memory:.0f} steps and "
                f"training has {steps:,}: with a lower `batch_norm_momentum` they follow sooner"
            )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        process_sum = float(logs["loss"]) * (batch + 1)  # Keras has the mean over the steps of this process
        if not np.isfinite(process_sum):
            raise self._not_finite("the loss is")
        self._loss_sum += process_sum - self._process_sum
        self._loss_steps += 1
        self._process_sum = process_sum
        self._bar.update(1)
        at_checkpoint = self.step in self._checkpoints()
        at_end = self.step == self.settings.steps
        measuring = at_checkpoint or at_end or self.step % self.settings.evaluation_steps() == 0
        saving = at_end or self.step % self.settings.save_every == 0
        if measuring or saving:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()  # inside fit, JAX's variables are stale until asked for
            if not averages_are_finite(self.model):
                raise self._not_finite("BatchNorm's averages are")
        if measuring:
            with averaged_weights(self.model):
                self._evaluate(at_checkpoint)
        if saving:
            self._save()

    def _not_finite(self, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what} not finite at step {self.step}: lower `learning_rate`, or use `precision` float32"
        )

    def on_train_end(self, logs: Any = None) -> None:
        self._bar.close()
        self._log.close()

    def _checkpoints(self) -> tuple[int, ...]:
        return self.settings.checkpoint_steps()

    def _evaluate(self, at_checkpoint: bool) -> None:
        probabilities = self.predictions(self.model)
        figures = self.measure(probabilities)
        self.last = probabilities
        loss = self._loss_sum / self._loss_steps
        self._loss_sum, self._loss_steps = 0.0, 0
        row = {"step": self.step, "loss": loss, "mAP": figures.map, "mAUC": figures.mauc, "d_prime": figures.d_prime}
        if at_checkpoint:
            write_atomically(self.checkpoint(self.step), without_optimizer(self.model).save_weights)
            row["ensemble_mAP"] = self.measure(self.ensemble.add(probabilities)).map
            row["checkpoints"] = self.ensemble.count
        row["seconds"] = self.seconds + time.perf_counter() - self._clock
        self.rows.append(row)
        self._write_log()
        self._log.write(row)
        mean = f"   mean of {row['checkpoints']}: {row['ensemble_mAP']:.4f}" if at_checkpoint else ""
        self._say(f"step {self.step:6,}  loss {loss:.5f}  {figures.line()}{mean}")
        if self.step >= _ALARM_AFTER * self.settings.steps and self.step > 100 and figures.map < 1.5 * self.prior:
            self._say(f"warning: mAP {figures.map:.4f} is that of a guess ({self.prior:.4f}): nothing is learned")

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)  # progress: standard output is for the results

    def _save(self) -> None:
        progress = {
            "step": self.step,
            "seconds": self.seconds + time.perf_counter() - self._clock,
            "rows": self.rows,
            "loss_sum": self._loss_sum,
            "loss_steps": self._loss_steps,
        }
        save_state(self.folder / "state.npz", self.model, progress)

    def _write_log(self) -> None:
        columns = ["step", "loss", "mAP", "mAUC", "d_prime", "ensemble_mAP", "checkpoints", "seconds"]

        def write(path: Path) -> None:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(self.rows)

        write_atomically(self.folder / "log.csv", write)


def fit(model: keras.Model, batches: Batches, settings: TrainingSettings, run: RunCallback) -> keras.Model:
    """A compiled model and its batches -> the trained model; goes on where the run's folder says it stopped.

    Args:
        model: compiled by `compiled`.
        batches: function of `(start, stop)` that gives the batches of those steps, for `model.fit`.
        settings: of the run.
        run: what happens between steps.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    build_optimizer(model)
    run.restore(model)
    left = settings.steps - run.step
    if left:
        # One epoch: steps are what a run counts, and an epoch's end would reset nothing that it needs.
        model.fit(batches(run.step, settings.steps), steps_per_epoch=left, verbose=0, shuffle=False, callbacks=[run])
    elif settings.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    return model


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Within it the model has the moving average of its weights, where its optimizer keeps one."""
    # Under mixed_float16 Keras wraps the optimizer, and the wrapper says that it keeps no averages.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = getattr(optimizer, "_model_variables_moving_average", None) if optimizer.use_ema else None
    if not averages:
        yield
        return
    own = [np.array(variable) for variable in model.trainable_variables]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(np.array(average))  # a copy: JAX may give away the buffers of what it predicts with
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)


def _progress_bar(steps: int, done: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True, disable=None, file=sys.stderr)
