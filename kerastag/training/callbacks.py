"""What happens between the steps of a run: evaluations, checkpoints, saved states and warnings."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastag._keras import sync_jax_state
from kerastag.files import write_atomically
from kerastag.metrics.classification import Metrics
from kerastag.training.config import TrainingConfig, checkpoint_steps, evaluation_interval
from kerastag.training.evaluation import CheckpointEnsemble, without_optimizer
from kerastag.training.optimization import (
    PLATEAU_INTERVALS,
    averaged_weights,
    averaging_steps,
    compute_plateau_factor,
    has_finite_averages,
)
from kerastag.training.run_folder import RunFolder
from kerastag.training.state import load_state, save_state

__all__ = ["TensorBoardLog", "TrainingCallback"]

_WARN_AFTER = 0.1  # fraction of the steps after which a model that learns is better than a random guess
_MIN_STEPS = 10  # a shorter run, such as one with `--smoke`, only shows that everything works
_MAX_AVERAGING = 0.2  # fraction of the steps over which the moving averages of batch normalization may reach


class TrainingCallback(keras.callbacks.Callback):
    """Evaluates a run, saves its checkpoints and states, and resumes it.

    Args:
        config: Configuration of the run.
        folder: Folder of the run.
        predict: Function of the model that returns the probabilities of the clips to evaluate on.
        evaluate: Function of probabilities that returns their metrics.
        prior: mAP of a random guess, for the warning that a model does not learn.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: RunFolder,
        predict: Callable[[keras.Model], np.ndarray],
        evaluate: Callable[[np.ndarray], Metrics],
        prior: float,
    ) -> None:
        super().__init__()
        self.config, self.folder, self.prior = config, folder, prior
        self.predict, self.evaluate = predict, evaluate
        self.checkpoint_steps = checkpoint_steps(config)
        self.step, self.seconds = 0, 0.0
        self._loss_sum, self._loss_steps = 0.0, 0  # since the last evaluation
        self._interval_losses = [0.0]  # sums of the intervals of the schedule `plateau`
        self.rows: list[dict[str, Any]] = []

    def restore(self, model: keras.Model) -> None:
        """Load the saved state of an interrupted run, if there is one."""
        self.ensemble = CheckpointEnsemble(model, self.predict)
        if not self.folder.state_path.exists():
            return
        progress = load_state(self.folder.state_path, model)
        self.step, self.seconds, self.rows = progress["step"], progress["seconds"], progress["rows"]
        self._loss_sum, self._loss_steps = progress.get("loss_sum", 0.0), progress.get("loss_steps", 0)
        self._interval_losses = progress.get("interval_losses", [0.0])
        saved = [step for step in self.checkpoint_steps if step <= self.step]
        self.ensemble.add_files([self.folder.checkpoint_path(step) for step in saved])
        if self.folder.is_writable:
            print(f"resumed at step {self.step:,} of {self.config.steps:,}", file=sys.stderr)

    def on_train_begin(self, logs: Any = None) -> None:
        self._tensorboard = TensorBoardLog(self.folder.path if self.folder.is_writable else None, self.step)
        self._start = time.perf_counter()
        self._process_sum = 0.0
        self._bar = _progress_bar(self.config.steps, self.step, disable=None if self.folder.is_writable else True)
        averaging, steps = averaging_steps(self.model), self.config.steps
        if averaging > _MAX_AVERAGING * steps and steps > _MIN_STEPS:
            self._report(
                f"warning: the moving averages of batch normalization reach over {averaging:.0f} steps, but training "
                f"has only {steps:,}; decrease `batch_norm_momentum` so that they converge"
            )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        process_sum = float(logs["loss"]) * (batch + 1)  # Keras reports the mean over the steps of this process
        if not np.isfinite(process_sum):
            raise self._not_finite("the loss is")
        self._loss_sum += process_sum - self._process_sum
        self._loss_steps += 1
        if self.config.schedule == "plateau":
            self._decay_on_plateau(process_sum - self._process_sum)
        self._process_sum = process_sum
        self._bar.update(1)
        is_checkpoint = self.step in self.checkpoint_steps
        is_end = self.step == self.config.steps
        is_evaluated = is_checkpoint or is_end or self.step % evaluation_interval(self.config) == 0
        is_saved = is_end or self.step % self.config.save_every == 0
        if is_evaluated or is_saved:
            sync_jax_state(self.model)
            if not has_finite_averages(self.model):
                raise self._not_finite("the moving averages of batch normalization are")
        if is_evaluated:
            with averaged_weights(self.model):
                self._evaluate(is_checkpoint)
        if is_saved:
            self._save()

    def _decay_on_plateau(self, loss: float) -> None:
        self._interval_losses[-1] += loss
        if self.step % max(1, self.config.steps // PLATEAU_INTERVALS) == 0:
            factor = compute_plateau_factor(self._interval_losses)
            sync_jax_state(self.model)
            self.model.optimizer.learning_rate = factor * self.config.learning_rate
            self._interval_losses.append(0.0)

    def on_train_end(self, logs: Any = None) -> None:
        self._bar.close()
        self._tensorboard.close()

    def _not_finite(self, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what} not finite at step {self.step}: decrease `learning_rate`, or set `precision` to float32"
        )

    def _evaluate(self, is_checkpoint: bool) -> None:
        predictions = self.predict(self.model)
        metrics = self.evaluate(predictions)
        loss = self._loss_sum / self._loss_steps
        self._loss_sum, self._loss_steps = 0.0, 0
        row = {"step": self.step, "loss": loss, "mAP": metrics.map, "mAUC": metrics.mauc, "d_prime": metrics.d_prime}
        if is_checkpoint:
            if self.folder.is_writable:
                save_weights = without_optimizer(self.model).save_weights
                write_atomically(self.folder.checkpoint_path(self.step), save_weights)
            row["ensemble_mAP"] = self.evaluate(self.ensemble.add(predictions)).map
            row["checkpoints"] = self.ensemble.count
        row["seconds"] = self._elapsed_seconds()
        self.rows.append(row)
        self.folder.save_log(self.rows)
        self._tensorboard.write(row)
        mean = f"   mean of {row['checkpoints']}: {row['ensemble_mAP']:.4f}" if is_checkpoint else ""
        self._report(f"step {self.step:6,}  loss {loss:.5f}  {metrics.format_line()}{mean}")
        if self.step >= max(_WARN_AFTER * self.config.steps, 101) and metrics.map < 1.5 * self.prior:
            self._report(
                f"warning: mAP {metrics.map:.4f} is close to that of a random guess ({self.prior:.4f}): "
                "the model does not learn"
            )

    def _report(self, line: str) -> None:
        if self.folder.is_writable:
            self._bar.write(line, file=sys.stderr)  # standard output is for the results

    def _save(self) -> None:
        progress = {
            "step": self.step,
            "seconds": self._elapsed_seconds(),
            "rows": self.rows,
            "loss_sum": self._loss_sum,
            "loss_steps": self._loss_steps,
            "interval_losses": self._interval_losses,
        }
        if self.folder.is_writable:
            save_state(self.folder.state_path, self.model, progress)

    def _elapsed_seconds(self) -> float:
        return self.seconds + time.perf_counter() - self._start


class TensorBoardLog:
    """TensorBoard curves of a run, in `tensorboard/`; nothing where TensorFlow is not installed.

    Args:
        folder: Folder of the run; None to write nothing.
        step: Step at which the run starts or is resumed.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            import tensorflow as tf
        except ImportError:
            return
        self._tf = tf
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"), filename_suffix=f".from_{step}")

    def write(self, row: dict[str, Any]) -> None:
        """Write the metrics of an evaluation."""
        if self._writer is None:
            return
        with self._writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name not in ("step", "checkpoints"):
                    self._tf.summary.scalar(name, value)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


def _progress_bar(steps: int, initial: int, disable: bool | None) -> Any:
    from tqdm import tqdm

    return tqdm(total=steps, initial=initial, unit="step", dynamic_ncols=True, disable=disable, file=sys.stderr)
