"""Windowed streaming: a model of clips hears the last window again and again."""

from __future__ import annotations

import numpy as np

from kerastag.edge.mode import Mode, Said
from kerastag.edge.rows import Grid
from kerastag.edge.runtime import LiteRTModel

__all__ = ["WindowedMode"]


class WindowedMode(Mode):
    """Rows -> clip probabilities of the last window, and those of its newest output frames, each hop.

    A window is as long as the model's input. Until one is full, it begins at the stream's first row, and silence
    stands after what was heard, as `Tagger` pads a short recording. Windows begin at whole output frames of one even
    grid, and the hop is whole output frames, so the new frames of all windows follow each other without a seam; for
    this the first window waits for the rest of a window that is no whole output frame (mn: 0.08 s of 10 s). A model
    without `framewise` has one frame a hop, with the window's probabilities.

    Args:
        model: Hears samples or log-mel frames, and gives `clipwise`.
        grid: What a row is.
        hop_seconds: From one window to the next, rounded to whole output frames.

    Raises:
        ValueError: The model has other outputs than its card says, or the hop is longer than its window.
    """

    def __init__(self, model: LiteRTModel, grid: Grid, hop_seconds: float) -> None:
        self._model, self._window = model, model.shape[1]
        self._framewise = "framewise" in model.outputs and model.card.seconds_per_frame is not None
        self._frame = max(1, grid.rows(model.card.seconds_per_frame or 0)) if self._framewise else 1
        whole = self._window // self._frame * self._frame
        self._tail = self._window - whole  # rows of a window after its last whole output frame
        hop = max(1, round(grid.rows(hop_seconds) / self._frame)) * self._frame
        if hop > whole:
            longest = grid.seconds(whole)
            raise ValueError(f"`hop_seconds` must be at most the window, {longest:g}, received {hop_seconds!r}")
        if self._framewise and model.output_shapes["framewise"][1] < whole // self._frame:
            received = f"{model.output_shapes['framewise'][1]} for {grid.seconds(self._window):g} s"
            raise ValueError(f"{model.path}: its card has {grid.seconds(self._frame):g} s a frame, received {received}")
        super().__init__(grid.silence, self._window, hop, self._tail + hop, hop)
        self._begin = 0  # no window begins before this row
        self._padded = np.zeros(model.shape, np.float32)
        self.frame_rows, self.window_rows = self._frame if self._framewise else hop, self._window

    def _say(self) -> Said:
        end = self._due - self._tail
        return self._speak(max(self._begin, self._due - self._window), end - self._hop, end)

    def _say_last(self) -> Said:
        earliest = -(-(self.position - self._window) // self._frame) * self._frame
        return self._speak(max(self._begin, earliest), self._told, self.position)

    def _is_left(self) -> bool:
        return self.position > self._told and self._ring.heard(min(self._window, self.position - self._told)) > 0

    def _forget(self) -> None:
        self._begin = self.position // self._frame * self._frame

    @property
    def _told(self) -> int:
        """The row up to which the places that were due have spoken of frames."""
        return self._due - self._hop - self._tail

    def _speak(self, start: int, first: int, last: int) -> Said:
        """The window from row `start` to the position; the frames from row `first` to row `last` are new in it."""
        count = self.position - start
        self._padded[0, :count] = self._ring.last(count)
        self._padded[0, count:] = self._silence[0]
        outputs = self._model(self._padded)
        probabilities, first = outputs["clipwise"][0], max(first, start)
        if not self._framewise:
            return Said(start, self.position, probabilities, probabilities[None], first)
        frames = slice((first - start) // self._frame, -(-(last - start) // self._frame))
        return Said(start, self.position, probabilities, outputs["framewise"][0, frames], first)
