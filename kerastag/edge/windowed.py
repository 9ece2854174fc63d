"""Windowed streaming: a model for clips processes the last window at every hop."""

from __future__ import annotations

import numpy as np

from kerastag.edge.mode import Prediction, StreamingMode
from kerastag.edge.rows import RowGrid
from kerastag.edge.runtime import LiteRTModel

__all__ = ["WindowedMode"]


class WindowedMode(StreamingMode):
    """A mode that predicts the last window and its newest output frames at every hop.

    A window is as long as the input of the model. Before the first one is full, it begins at the first row and is
    padded with silence, as `Tagger` pads a short recording. Windows begin at whole output frames on one regular grid,
    and the hop is a whole number of output frames, so that the new frames of all windows follow each other without a
    seam. The first window therefore waits for the part of a window that is not a whole output frame (mn: 0.08 s of
    10 s). A model without `framewise` has one frame per hop, with the probabilities of the window.

    Args:
        model: Model that takes samples or log-mel frames and predicts `clipwise`.
        grid: Grid of the rows.
        hop_seconds: Time from one window to the next, seconds, rounded to whole output frames.

    Raises:
        ValueError: The outputs of the model do not match its card, or the hop is longer than the window.
    """

    def __init__(self, model: LiteRTModel, grid: RowGrid, hop_seconds: float) -> None:
        self._model, self._window = model, model.shape[1]
        self._has_framewise = "framewise" in model.outputs and model.card.seconds_per_frame is not None
        self._frame = max(1, grid.to_rows(model.card.seconds_per_frame or 0)) if self._has_framewise else 1
        whole_frames = self._window // self._frame * self._frame
        self._tail = self._window - whole_frames  # Rows of a window after its last whole output frame.
        hop = max(1, round(grid.to_rows(hop_seconds) / self._frame)) * self._frame
        if hop > whole_frames:
            longest = grid.to_seconds(whole_frames)
            raise ValueError(
                f"`hop_seconds` must be at most the length of the window, {longest:g}; received: {hop_seconds!r}"
            )
        if self._has_framewise and model.output_shapes["framewise"][1] < whole_frames // self._frame:
            frame_seconds, window_seconds = grid.to_seconds(self._frame), grid.to_seconds(self._window)
            raise ValueError(
                f"{model.path}: `framewise` must have a frame every {frame_seconds:g} s, as the card says; "
                f"received: {model.output_shapes['framewise'][1]} frames in {window_seconds:g} s"
            )
        super().__init__(grid.silence, self._window, hop, self._tail + hop, hop)
        self._earliest_start = 0  # No window begins before this row.
        self._input = np.zeros(model.shape, np.float32)
        self.frame_rows, self.window_rows = self._frame if self._has_framewise else hop, self._window

    def _predict(self) -> Prediction:
        end = self._due - self._tail
        return self._run(max(self._earliest_start, self._due - self._window), end - self._hop, end)

    def _predict_last(self) -> Prediction:
        start = -(-(self.position - self._window) // self._frame) * self._frame
        return self._run(max(self._earliest_start, start), self._predicted_end, self.position)

    def _has_remainder(self) -> bool:
        rest = self.position - self._predicted_end
        return rest > 0 and self._buffer.count_audio(min(self._window, rest)) > 0

    def _reset(self) -> None:
        self._earliest_start = self.position // self._frame * self._frame

    @property
    def _predicted_end(self) -> int:
        """The row up to which the frames of earlier predictions reach."""
        return self._due - self._hop - self._tail

    def _run(self, start: int, first: int, last: int) -> Prediction:
        """Predict the window from row `start` to the position, in which the frames from `first` to `last` are new."""
        count = self.position - start
        self._input[0, :count] = self._buffer.get_last(count)
        self._input[0, count:] = self._silence[0]
        outputs = self._model(self._input)
        probabilities, first = outputs["clipwise"][0], max(first, start)
        if not self._has_framewise:
            return Prediction(start, self.position, probabilities, probabilities[None], first)
        frames = slice((first - start) // self._frame, -(-(last - start) // self._frame))
        return Prediction(start, self.position, probabilities, outputs["framewise"][0, frames], first)
