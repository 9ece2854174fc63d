"""A run's curves for TensorBoard."""

from pathlib import Path


class ScalarLog:
    """Rows of figures -> TensorBoard event files in the run's `tensorboard/`; nothing where TensorFlow is absent.

    Args:
        folder: of the run.
        step: from which the run goes on; later points of an earlier start are superseded.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            import tensorflow as tf
        except ImportError:
            self._writer = None
            return
        self._tf = tf
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"), filename_suffix=f".from_{step}")

    def write(self, row: dict) -> None:
        if self._writer is None:
            return
        with self._writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name not in ("step", "checkpoints"):
                    self._tf.summary.scalar(name, value)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
