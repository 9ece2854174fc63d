"""The parts of a clip that its most probable classes point at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

# Below it float32 has no full digits left, and whether they still compare depends on the processor.
SMALLEST_PROBABILITY = 1e-30


@keras.saving.register_keras_serializable(package="kerastag")
class ClassWiseClipSelect(keras.layers.Layer):
    """Clip with its clip and frame probabilities -> one sub-clip for each of its most probable classes.

    For each of the `min(num_sub_clips, classes)` classes k with the highest `clipwise[k]`, the highest first:

        m = argmax over t of framewise[t, k], the middle of the first frames in a row that have the maximum
        center = (m + 0.5) * S / T
        start = floor(min(max(center - L / 2, 0), S - L)),  sub-clip = source[start : start + L]

    with S steps of the source, T output frames and `L = round(sub_clip_seconds * sample_rate)`: a window around the
    output frame where the class is most probable, shifted inwards at either end. Several frames in a row have the maximum
    where a sigmoid has reached 1, or in whole numbers of 8 bits; the first of them would be early by half their time.
    Of classes of equal probability the first is taken, on every backend. No gradient flows through the choice; it flows
    to the source. All is computed in float32, and the places in whole numbers.

    Args:
        num_sub_clips: sub-clips, N, at least 1; above the number of classes it means all of them.
        sub_clip_seconds: length of a sub-clip, seconds, above 0.
        sample_rate: steps of the source in a second, above 0: Hz for a waveform, frames a second for log-mel.
        suppress_radius_seconds: frames whose distance from a chosen one is at most this are left out for the classes
            still to choose, so that windows spread out, at least 0; where none is left, all are there again.
            0 is the paper: classes choose by themselves.
        return_windows: whether to return where the windows begin, and whose they are.

    Input shape:
        A list `[source, clipwise, framewise]`: waveform `(batch, samples)` or log-mel `(batch, frames, mel_bins)`;
        probabilities `(batch, classes)` and `(batch, output_frames, classes)`. What is not above 1e-30, NaN among it,
        counts as 0. A source of open length that turns out shorter than a sub-clip is lengthened by zeros.

    Output shape:
        `(batch, N, L)` or `(batch, N, L, mel_bins)`. With `return_windows` a tuple of that, of the starts in seconds
        `(batch, N)`, float32, and of the classes `(batch, N)`, int32. N is `min(num_sub_clips, classes)`.

    Raises:
        ValueError: an argument is outside its range; the inputs' axes do not belong together; `sub_clip_seconds` is
            longer than the source, where its length is known.

    >>> framewise = ops.convert_to_tensor([[[0.1], [0.9], [0.1], [0.1]]])
    >>> layer = ClassWiseClipSelect(num_sub_clips=1, sub_clip_seconds=1.0, sample_rate=4, return_windows=True)
    >>> windows, start_seconds, classes = layer([ops.arange(8.0)[None], ops.ones((1, 1)), framewise])
    >>> ops.convert_to_numpy(windows).tolist(), float(start_seconds[0, 0])
    ([[[1.0, 2.0, 3.0, 4.0]]], 0.25)

    Reference:
        Wang et al. 2021, section 2.2. What the paper leaves open: classes are sorted by their clip probability, output
        frame m stands for its middle, and frames that are equal for the middle of them.
    """

    def __init__(
        self,
        num_sub_clips: int = 5,
        sub_clip_seconds: float = 3.0,
        sample_rate: float = 32_000,
        suppress_radius_seconds: float = 0.0,
        return_windows: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not isinstance(num_sub_clips, int) or isinstance(num_sub_clips, bool) or num_sub_clips < 1:
            raise ValueError(f"`num_sub_clips` must be a whole number of at least 1. Received: {num_sub_clips!r}")
        self.num_sub_clips = num_sub_clips
        self.sub_clip_seconds = _number("sub_clip_seconds", sub_clip_seconds)
        self.sample_rate = _number("sample_rate", sample_rate)
        self.suppress_radius_seconds = _number("suppress_radius_seconds", suppress_radius_seconds, or_zero=True)
        self.return_windows = bool(return_windows)
        self._told: Any = None
        self.length = round(sub_clip_seconds * sample_rate)
        if self.length < 1:
            raise ValueError(
                f"`sub_clip_seconds` must be at least one step of the source. Received: {sub_clip_seconds!r}"
            )

    def build(self, input_shapes):
        source, _, _ = _checked(input_shapes)
        if source[1] is not None and source[1] < self.length:
            raise ValueError(
                f"`sub_clip_seconds` must be at most the source's {source[1] / self.sample_rate:g} s. "
                f"Received: {self.sub_clip_seconds!r}"
            )
        self.built = True

    def call(self, inputs):
        source, clipwise, framewise = inputs
        _checked([source.shape, clipwise.shape, framewise.shape])
        clipwise, framewise = (ops.stop_gradient(_counted(x)) for x in (clipwise, framewise))
        steps, frames = ops.shape(source)[1], ops.shape(framewise)[1]
        classes = ops.top_k(clipwise, self._count(clipwise.shape[1]))[1]  # (batch, N)
        starts = self._starts(self._best_middles(_rows_of(classes, framewise), steps), steps, frames)
        windows = self._cut(source, starts)
        if not self.return_windows:
            return windows
        return windows, ops.cast(starts, "float32") / self.sample_rate, ops.cast(classes, "int32")

    @contextmanager
    def listening_at(self, middles: Any) -> Iterator[None]:
        """Within it, all windows of a clip are around one place, whatever is probable; of calls that are not compiled.

        Args:
            middles: m of each clip of the batch, output frames and halves of them, `(batch,)`.
        """
        self._told = ops.cast(2 * ops.convert_to_tensor(middles, "float32"), "int32")[:, None]
        try:
            yield
        finally:
            self._told = None

    def _count(self, num_classes: int) -> int:
        return min(self.num_sub_clips, num_classes)

    def _best_middles(self, rows, steps):
        """Frame probabilities of the chosen classes (batch, N, frames) -> twice the m of each, (batch, N)."""
        if self._told is not None:
            return ops.broadcast_to(self._told, ops.shape(rows)[:2])
        if not self.suppress_radius_seconds:
            return _twice_middle(rows)
        every = ops.arange(ops.shape(rows)[2], dtype="int32")[None]
        chosen = [_twice_middle(rows[:, :1])]  # (batch, 1)
        taken = self._near(every, chosen[0], steps)  # (batch, frames)
        for n in range(1, rows.shape[1]):
            free = ops.logical_or(ops.logical_not(taken), ops.all(taken, axis=1, keepdims=True))
            chosen.append(_twice_middle(ops.where(free, rows[:, n], -1.0)[:, None]))
            taken = ops.logical_or(taken, self._near(every, chosen[-1], steps))
        return ops.concatenate(chosen, axis=1)

    def _near(self, every, twice_middle, steps):
        """Whether `|t - m| * S / T` is at most the radius, in whole numbers that stay small."""
        frames = ops.shape(every)[1]
        twice = ops.maximum(2 * every - twice_middle, twice_middle - 2 * every)
        whole, rest = steps // frames, steps % frames
        radius = round(self.suppress_radius_seconds * self.sample_rate)
        return twice * whole + (twice * rest + frames - 1) // frames <= 2 * radius

    def _starts(self, twice_middle, steps, frames):
        """`floor((m + 0.5) * S / T - L / 2)`, shifted inwards, in whole numbers that stay small."""
        whole, rest = steps // frames, steps % frames
        center = twice_middle + 1  # twice m + 0.5, in frames
        twice = center * whole + (center * rest) // frames - self.length
        return ops.minimum(ops.maximum(twice, 0) // 2, ops.maximum(steps - self.length, 0))

    def _cut(self, source, starts):
        source = _lengthened(source, self.length)
        shape = ops.shape(source)
        first = ops.arange(shape[0], dtype="int32")[:, None] * shape[1] + starts
        steps = first[:, :, None] + ops.arange(self.length, dtype="int32")  # (batch, N, L)
        return ops.take(ops.reshape(source, (shape[0] * shape[1], *shape[2:])), steps, axis=0)

    def compute_output_spec(self, inputs):
        source, clipwise, _ = _checked([x.shape for x in inputs])
        batch, count = source[0], self._count(clipwise[1])
        windows = keras.KerasTensor((batch, count, self.length, *source[2:]), "float32")
        if not self.return_windows:
            return windows
        return windows, keras.KerasTensor((batch, count), "float32"), keras.KerasTensor((batch, count), "int32")

    def get_config(self) -> dict[str, Any]:
        names = ("num_sub_clips", "sub_clip_seconds", "sample_rate", "suppress_radius_seconds", "return_windows")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _counted(probability):
    """What is not above the smallest that counts, NaN among it, becomes 0."""
    return ops.where(probability > SMALLEST_PROBABILITY, probability, 0.0)


def _twice_middle(rows):
    """Rows (batch, N, frames) -> first plus last of the first frames in a row that have the maximum, (batch, N)."""
    best, first = ops.top_k(rows, 1)
    frames = ops.shape(rows)[2]
    every, first = ops.arange(frames, dtype="int32"), ops.cast(first, "int32")
    after = ops.min(ops.where(ops.logical_and(every > first, rows < best), every, frames), axis=2)
    return first[:, :, 0] + after - 1


def _rows_of(classes, framewise):
    """Classes (batch, N) of (batch, frames, classes) -> their rows (batch, N, frames)."""
    batch, frames, num_classes = ops.shape(framewise)
    rows = ops.reshape(ops.transpose(framewise, (0, 2, 1)), (batch * num_classes, frames))
    first = ops.arange(batch, dtype="int32")[:, None] * num_classes
    return ops.take(rows, first + ops.cast(classes, "int32"), axis=0)


def _lengthened(source, length: int):
    """Zeros at the end of a source that is shorter than a sub-clip."""
    steps = source.shape[1]
    if steps is not None and steps >= length:
        return source
    padding = [[0, 0]] * (len(source.shape) - 2)
    longer = ops.pad(source, [[0, 0], [0, length], *padding])
    return longer[:, : max(steps, length) if steps is not None else ops.maximum(ops.shape(source)[1], length)]


def _checked(shapes) -> list[tuple[int | None, ...]]:
    """Raise unless the shapes of source, clipwise and framewise belong together."""
    shapes = [tuple(shape) for shape in shapes]
    if [len(shape) for shape in shapes] not in ([2, 2, 3], [3, 2, 3]):
        raise ValueError(
            "`inputs` must be source (batch, steps) or (batch, frames, mel_bins), clipwise (batch, classes) and "
            f"framewise (batch, output_frames, classes). Received: shapes {', '.join(map(str, shapes))}"
        )
    source, clipwise, framewise = shapes
    if clipwise[1] is None or clipwise[1] != framewise[2]:
        raise ValueError(
            f"`clipwise` and `framewise` must have the same classes. Received: shapes {clipwise}, {framewise}"
        )
    if len({shape[0] for shape in shapes} - {None}) > 1:
        raise ValueError(f"`inputs` must have the same batch. Received: shapes {', '.join(map(str, shapes))}")
    if None not in (source[1], framewise[1]) and not 1 <= framewise[1] <= source[1]:
        raise ValueError(
            f"`framewise` must have from 1 to {source[1]} output frames, as the source has steps. "
            f"Received: {framewise[1]}"
        )
    return shapes


def _number(name: str, value: Any, or_zero: bool = False) -> float:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    if not fine or (value == 0 and not or_zero):
        raise ValueError(f"`{name}` must be a number {'of at least' if or_zero else 'above'} 0. Received: {value!r}")
    return value
