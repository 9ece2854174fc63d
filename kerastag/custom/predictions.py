"""The predictions of a run for its recordings, which its report and `predictions.csv` are made of."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.custom.clips import Clips
from kerastag.custom.look_alikes import Neighbors
from kerastag.data.audio_lists import Recording
from kerastag.files import format_csv, read_arrays, write_atomically, write_text
from kerastag.tagger.terminal import make_printable

__all__ = ["RunPredictions", "find_peaks"]

_ARRAYS = ("paths", "names", "start_seconds", "end_seconds", "folds", "targets", "probabilities", "peak_seconds")
_NEIGHBORS = ("rows", "similarities", "own_similarities")


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """Predictions of the recordings of a run, each by taggers that were not trained on it if there are folds.

    Attributes:
        paths: Absolute paths of the recordings, `(recordings,)`; empty for synthetic background.
        names: Names of the recordings in the list or below the folder, `(recordings,)`.
        start_seconds: Start of each recording in its file, `(recordings,)`.
        end_seconds: End of each recording in its file; NaN for the end of the file.
        folds: Fold of each recording from 0, int `(recordings,)`.
        targets: Labels, bool `(recordings, classes)`.
        probabilities: Predictions, float32 `(seeds, recordings, classes)`.
        peak_seconds: Time in each recording at which the final tagger predicts each class with the highest probability,
            float32 `(recordings, classes)`; NaN if unknown.
        neighbors: Nearest neighbors of other classes.
    """

    paths: np.ndarray
    names: np.ndarray
    start_seconds: np.ndarray
    end_seconds: np.ndarray
    folds: np.ndarray
    targets: np.ndarray
    probabilities: np.ndarray
    peak_seconds: np.ndarray
    neighbors: Neighbors

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def mean_probabilities(self) -> np.ndarray:
        """Mean of the predictions over the seeds, `(recordings, classes)`."""
        return self.probabilities.mean(axis=0)

    @classmethod
    def collect(
        cls, clips: Clips, probabilities: np.ndarray, peak_seconds: np.ndarray, neighbors: Neighbors
    ) -> "RunPredictions":
        """Collect the predictions of the recordings of a run, which are `clips.recordings`."""
        paths, names, starts, ends = [], [], [], []
        for row in clips.recordings:
            clip = clips.audio[row]
            is_file = isinstance(clip, Recording)
            paths.append(str(clip.path.absolute()) if is_file else "")
            names.append(clip.name if is_file else f"synthetic background {row}")
            starts.append(clip.start_seconds if is_file else 0.0)
            ends.append(clip.end_seconds if is_file and clip.end_seconds is not None else np.nan)
        return cls(
            paths=np.array(paths, str),
            names=np.array(names, str),
            start_seconds=np.array(starts),
            end_seconds=np.array(ends),
            folds=clips.folds[clips.recordings],
            targets=clips.targets[clips.recordings],
            probabilities=np.asarray(probabilities, np.float32),
            peak_seconds=np.asarray(peak_seconds, np.float32),
            neighbors=neighbors,
        )

    @classmethod
    def read(cls, path: str | Path) -> "RunPredictions":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or lacks an array.
        """
        arrays = read_arrays(path)
        missing = [name for name in (*_ARRAYS, *(f"neighbor_{key}" for key in _NEIGHBORS)) if name not in arrays]
        if missing:
            raise ValueError(f"{path}: must have the array `{missing[0]}`; received: {', '.join(arrays) or 'none'}")
        count = len(arrays["paths"])
        for name, values in arrays.items():
            length = values.shape[1] if name == "probabilities" and values.ndim == 3 else len(values)
            if length != count:
                raise ValueError(f"{path}: `{name}` must have {count} recordings; received: {length}")
        neighbors = Neighbors(*(arrays[f"neighbor_{key}"] for key in _NEIGHBORS))
        return cls(**{name: arrays[name] for name in _ARRAYS}, neighbors=neighbors)

    def save(self, path: str | Path) -> None:
        """Write the predictions as an `.npz` file."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"neighbor_{key}": getattr(self.neighbors, key) for key in _NEIGHBORS}
        write_atomically(path, lambda temporary_path: np.savez_compressed(temporary_path, **arrays))

    def save_table(self, path: str | Path, class_names: tuple[str, ...]) -> None:
        """Write the mean predictions as CSV: file, start, end, fold from 1, labels, and a column for each class."""
        rows = []
        for row, probabilities in enumerate(self.mean_probabilities):
            end = self.end_seconds[row]
            labels = ";".join(class_names[k] for k in np.flatnonzero(self.targets[row]))
            position = (f"{self.start_seconds[row]:g}", "" if np.isnan(end) else f"{end:g}")
            name = make_printable(str(self.names[row]))
            rows.append((name, *position, self.folds[row] + 1, labels, *(f"{p:.4f}" for p in probabilities)))
        header = ("file", "start_seconds", "end_seconds", "fold", "labels", *class_names)
        write_text(path, format_csv([header, *rows]))


def find_peaks(framewise: np.ndarray, lengths: np.ndarray, segment_seconds: float, is_timed: np.ndarray) -> np.ndarray:
    """Find the time at which each class is most probable in each recording.

    Args:
        framewise: Probabilities of segments, `(recordings, segments, classes)`.
        lengths: Number of segments of each recording, int `(recordings,)`.
        segment_seconds: Length of a segment, above 0 s.
        is_timed: Whether the segments of a recording are at regular times, bool `(recordings,)`.

    Returns:
        Start of the most probable segment, float32 `(recordings, classes)`; NaN where `is_timed` is false.
    """
    is_segment = np.arange(framewise.shape[1]) < lengths[:, None]
    peaks = np.where(is_segment[:, :, None], framewise, -1).argmax(axis=1) * np.float32(segment_seconds)
    return np.where(is_timed[:, None], peaks, np.float32(np.nan))
