"""Selection of the sub-clips of a clip in which its most probable classes are most probable."""

from typing import Any

import keras
from keras import ops

from kerastag.layers._arguments import check_integer, check_positive
from kerastag.layers.log_mel import pad_to

# Below it float32 is subnormal, and how such numbers compare depends on the processor.
_SMALLEST_PROBABILITY = 1e-30


@keras.saving.register_keras_serializable(package="kerastag")
class ClassWiseClipSelect(keras.layers.Layer):
    """Selection of one sub-clip for each of the most probable classes of a clip.

    For each of the `min(num_sub_clips, classes)` classes k with the highest `clipwise[k]`, in descending order:

        m = argmax over t of framewise[t, k], or the middle of the first run of frames with the maximum
        center = (m + 0.5) * S / T
        start = floor(min(max(center - L / 2, 0), S - L)),  sub_clip = source[start : start + L]

    with S steps of the source, T output frames and `L = round(sub_clip_seconds * sample_rate)`: a window around the
    output frame in which the class is most probable, moved inwards at either end. A run of frames has the maximum where
    a sigmoid has reached 1, or in a model quantized to 8 bits; its first frame would be early by half its length.
    Among classes of equal probability the first is taken, on every backend. The gradient flows to the source only, not
    through the selection. Probabilities are float32 under every dtype policy, and positions are integers.

    Args:
        num_sub_clips: Number of sub-clips, N, at least 1. It is limited to the number of classes.
        sub_clip_seconds: Length of a sub-clip in seconds, above 0.
        sample_rate: Number of steps of the source per second, above 0: Hz for a waveform, frames per second for
            log-mel.
        suppress_radius_seconds: Radius in seconds, at least 0, around a selected frame in which no frame is selected
            for the remaining classes, unless no other frame is left. With 0, as in the paper, classes are independent.
        return_windows: Whether to return the starts and the classes of the sub-clips, too.

    Input shape:
        A list `[source, clipwise, framewise]`: waveform `(batch, samples)` or log-mel `(batch, frames, mel_bins)`;
        probabilities `(batch, classes)` and `(batch, output_frames, classes)`. Probabilities of at most 1e-30, and NaN,
        count as 0. If the length of the source is not known in advance, a source shorter than a sub-clip is padded with
        zeros.

    Output shape:
        `(batch, N, L)` or `(batch, N, L, mel_bins)`. With `return_windows` a tuple of the sub-clips, their starts in
        seconds, `(batch, N)`, float32, and their classes, `(batch, N)`, int32.

    Raises:
        ValueError: An argument is outside its range, the axes of the inputs do not match, or `sub_clip_seconds` exceeds
            the known length of the source.

    >>> framewise = ops.convert_to_tensor([[[0.1], [0.9], [0.1], [0.1]]])
    >>> layer = ClassWiseClipSelect(num_sub_clips=1, sub_clip_seconds=1.0, sample_rate=4, return_windows=True)
    >>> sub_clips, start_seconds, classes = layer([ops.arange(8.0)[None], ops.ones((1, 1)), framewise])
    >>> ops.convert_to_numpy(sub_clips).tolist(), float(start_seconds[0, 0])
    ([[[1.0, 2.0, 3.0, 4.0]]], 0.25)

    Reference: Wang et al., 2021, section 2.2. The paper does not state the order of the classes, the position that an
    output frame stands for, and the frame among equal ones; they are as above.
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
        self.num_sub_clips = check_integer("num_sub_clips", num_sub_clips)
        self.sub_clip_seconds = check_positive("sub_clip_seconds", sub_clip_seconds)
        self.sample_rate = check_positive("sample_rate", sample_rate)
        self.suppress_radius_seconds = check_positive("suppress_radius_seconds", suppress_radius_seconds, or_zero=True)
        self.return_windows = bool(return_windows)
        self.length = round(sub_clip_seconds * sample_rate)
        if self.length < 1:
            raise ValueError(
                f"`sub_clip_seconds` must be at least one step of the source; received: {sub_clip_seconds!r}"
            )

    def build(self, input_shapes):
        source, _, _ = _check_shapes(input_shapes)
        if source[1] is not None and source[1] < self.length:
            raise ValueError(
                f"`sub_clip_seconds` must be at most the {source[1] / self.sample_rate:g} s of the source; "
                f"received: {self.sub_clip_seconds!r}"
            )
        self.built = True

    def call(self, inputs):
        source, clipwise, framewise = inputs
        _check_shapes([source.shape, clipwise.shape, framewise.shape])
        # NaN counts as 0, too.
        clipwise, framewise = (
            ops.stop_gradient(ops.where(x > _SMALLEST_PROBABILITY, x, 0.0)) for x in (clipwise, framewise)
        )
        steps, frames = ops.shape(source)[1], ops.shape(framewise)[1]
        classes = ops.top_k(clipwise, min(self.num_sub_clips, clipwise.shape[1]))[1]  # (batch, N)
        starts = self._compute_starts(self.find_middles(_take_classes(framewise, classes), steps), steps, frames)
        sub_clips = self._take_sub_clips(source, starts)
        if not self.return_windows:
            return sub_clips
        return sub_clips, ops.cast(starts, "float32") / self.sample_rate, ops.cast(classes, "int32")

    def find_middles(self, probabilities: Any, steps: Any) -> Any:
        """Find `2 * m` of every sub-clip, `(batch, N)`, integers, from `(batch, N, output_frames)`."""
        if not self.suppress_radius_seconds:
            return _find_peaks(probabilities)
        frames = ops.arange(ops.shape(probabilities)[2], dtype="int32")[None]
        middles = [_find_peaks(probabilities[:, :1])]  # (batch, 1)
        suppressed = self._is_near(frames, middles[0], steps)  # (batch, output_frames)
        for n in range(1, probabilities.shape[1]):
            free = ops.logical_or(ops.logical_not(suppressed), ops.all(suppressed, axis=1, keepdims=True))
            middles.append(_find_peaks(ops.where(free, probabilities[:, n], -1.0)[:, None]))
            suppressed = ops.logical_or(suppressed, self._is_near(frames, middles[-1], steps))
        return ops.concatenate(middles, axis=1)

    def _is_near(self, frames, twice_middle, steps):
        """Whether `|t - m| * S / T` is at most the radius, in integers that do not overflow."""
        num_frames = ops.shape(frames)[1]
        twice = ops.maximum(2 * frames - twice_middle, twice_middle - 2 * frames)
        quotient, remainder = steps // num_frames, steps % num_frames
        radius = round(self.suppress_radius_seconds * self.sample_rate)
        return twice * quotient + (twice * remainder + num_frames - 1) // num_frames <= 2 * radius

    def _compute_starts(self, twice_middle, steps, frames):
        """Compute `floor((m + 0.5) * S / T - L / 2)`, moved inwards, in integers that do not overflow."""
        quotient, remainder = steps // frames, steps % frames
        center = twice_middle + 1  # 2 * (m + 0.5)
        twice_start = center * quotient + (center * remainder) // frames - self.length
        return ops.minimum(ops.maximum(twice_start, 0) // 2, ops.maximum(steps - self.length, 0))

    def _take_sub_clips(self, source, starts):
        source = pad_to(source, self.length)
        shape = ops.shape(source)
        first = ops.arange(shape[0], dtype="int32")[:, None] * shape[1] + starts
        steps = first[:, :, None] + ops.arange(self.length, dtype="int32")  # (batch, N, L)
        return ops.take(ops.reshape(source, (shape[0] * shape[1], *shape[2:])), steps, axis=0)

    def compute_output_spec(self, inputs):
        source, clipwise, _ = _check_shapes([x.shape for x in inputs])
        batch, count = source[0], min(self.num_sub_clips, clipwise[1])
        sub_clips = keras.KerasTensor((batch, count, self.length, *source[2:]), "float32")
        if not self.return_windows:
            return sub_clips
        return sub_clips, keras.KerasTensor((batch, count), "float32"), keras.KerasTensor((batch, count), "int32")

    def get_config(self) -> dict[str, Any]:
        names = ("num_sub_clips", "sub_clip_seconds", "sample_rate", "suppress_radius_seconds", "return_windows")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ClassWiseClipSelect":
        former_names = {"num_clips": "num_sub_clips", "clip_seconds": "sub_clip_seconds"}  # before version 0.1.0
        return cls(**{former_names.get(name, name): value for name, value in config.items()})


def _find_peaks(probabilities):
    """Return the first plus the last frame of the first run with the maximum, `(batch, N)`, of `(batch, N, frames)`."""
    maximum, first = ops.top_k(probabilities, 1)
    num_frames = ops.shape(probabilities)[2]
    frames, first = ops.arange(num_frames, dtype="int32"), ops.cast(first, "int32")
    is_after = ops.logical_and(frames > first, probabilities < maximum)
    return first[:, :, 0] + ops.min(ops.where(is_after, frames, num_frames), axis=2) - 1


def _take_classes(framewise, classes):
    """Take the rows of `classes`, `(batch, N)`, from `(batch, frames, classes)`; return `(batch, N, frames)`."""
    batch, frames, num_classes = ops.shape(framewise)
    rows = ops.reshape(ops.transpose(framewise, (0, 2, 1)), (batch * num_classes, frames))
    first = ops.arange(batch, dtype="int32")[:, None] * num_classes
    return ops.take(rows, first + ops.cast(classes, "int32"), axis=0)


def _check_shapes(shapes) -> list[tuple[int | None, ...]]:
    """Raise a ValueError unless the shapes of source, clipwise and framewise match; return them as tuples."""
    shapes = [tuple(shape) for shape in shapes]
    received = f"received: shapes {', '.join(map(str, shapes))}"
    if [len(shape) for shape in shapes] not in ([2, 2, 3], [3, 2, 3]):
        raise ValueError(
            "`inputs` must be source (batch, steps) or (batch, frames, mel_bins), clipwise (batch, classes) and "
            f"framewise (batch, output_frames, classes); {received}"
        )
    source, clipwise, framewise = shapes
    if clipwise[1] is None or clipwise[1] != framewise[2]:
        raise ValueError(f"`clipwise` and `framewise` must have the same classes; {received}")
    if len({shape[0] for shape in shapes} - {None}) > 1:
        raise ValueError(f"`inputs` must have the same batch; {received}")
    if None not in (source[1], framewise[1]) and not 1 <= framewise[1] <= source[1]:
        raise ValueError(
            f"`framewise` must have from 1 to {source[1]} output frames, the number of steps of the source; "
            f"received: {framewise[1]}"
        )
    return shapes
