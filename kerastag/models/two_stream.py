"""Global-local attention: two streams of any backbone, the second on the sub-clips that the first one chooses."""

import copy
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import keras
from keras import ops

from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect
from kerastag.layers.log_mel import LogMel
from kerastag.models import MODELS
from kerastag.models.backbone import INPUTS, Backbone, check_count, log_mel_input
from kerastag.models.initial_weights import take_weights


def gl_at(
    num_classes: int = 527,
    *,
    backbone: str = "cnn10",
    num_sub_clips: int = 5,
    sub_clip_seconds: float = 3.0,
    width: float = 1.0,
    input: str = "log_mel",
    select: str = "log_mel",
    suppress_radius_seconds: float = 0.0,
    sub_clip_pooling: str = "max_average",
    freeze_global: bool = False,
    initial_weights: str | os.PathLike[str] | keras.Model | None = None,
    augment: keras.layers.Layer | None = None,
    name: str = "gl_at",
    **settings: Any,
) -> keras.Model:
    """Log-mel or waveform -> clip probabilities of two streams, and where the second one listened.

    The global stream hears the clip: `global`, `framewise`. `ClassWiseClipSelect` cuts N sub-clips around the frames
    where its most probable classes are most probable. The local stream, of the same architecture with weights of its
    own, hears each sub-clip, and `local = P(its probabilities)`. `clipwise = P(global, local)`. P is the mean of the
    maximum and the average, unless `sub_clip_pooling` makes the first of the two the maximum alone.

    Args:
        num_classes: Whole number above zero.
        backbone: Of both streams: one of `BACKBONES`.
        num_sub_clips: Sub-clips, N, at least 1; above the number of classes it means all of them.
        sub_clip_seconds: Length of a sub-clip, seconds: long enough for an output frame of the backbone.
        width: Factor on every number of the backbone's channels, above 0.
        input: `"log_mel"`, shape `(batch, frames, mel_bins)`, or `"waveform"`, `(batch, samples)`.
        select: What sub-clips are cut from: `"log_mel"`, so that the front end runs once, or `"waveform"`, which
            needs waveform input: then the local stream's front end hears each sub-clip by itself.
        suppress_radius_seconds: As of `ClassWiseClipSelect`; 0 is the paper.
        sub_clip_pooling: Over the sub-clips: `"max_average"`, the paper's P, or `"max"`. In the average a class counts
            less for every sub-clip that was cut for another one and does not hold it.
        freeze_global: Whether the global stream stays as it is: its weights and its normalization's averages do not
            train, and it has no dropout and no augmentation.
        initial_weights: The backbone alone, a model or its `.keras` file, whose weights both streams begin with. Where
            it has another number of classes, its classifier is left out, and both begin with the same new one.
        augment: Layer on the log-mel, such as `SpecAugment`; each stream has its own.
        name: The model's name.
        **settings: Of the backbone's builder, such as `dropout`.

    Returns:
        Model with a dict of outputs: `clipwise`, `global`, `local` `(batch, num_classes)`; `framewise`
        `(batch, output_frames, num_classes)` and `embedding` `(batch, channels)` of the global stream;
        `start_seconds` `(batch, N)`, where the sub-clips begin, and `classes` `(batch, N)`, int32, which class each
        was cut for. What is shorter than a sub-clip ends in zeros there.

    Raises:
        ValueError: An argument is outside its range; `initial_weights` are not those of this backbone.

    >>> model = gl_at(num_classes=10, backbone="mn", width=0.1, num_sub_clips=3)
    >>> model.output["local"].shape, model.output["start_seconds"].shape
    ((None, 10), (None, 3))

    Reference: Wang et al., A global-local attention framework for weakly labelled audio tagging, 2021, equations 1 to
    3 and section 2.2. `freeze_global`, `initial_weights` and `suppress_radius_seconds` are what its public code does
    and its text does not say; `sub_clip_pooling="max"` is ours.
    """
    if sub_clip_pooling not in SUB_CLIP_POOLINGS:
        names = ", ".join(SUB_CLIP_POOLINGS)
        raise ValueError(f"`sub_clip_pooling` must be one of {names}, received {sub_clip_pooling!r}")
    check_count("num_classes", num_classes)
    part = backbone_of(backbone)
    front_end = FRONT_ENDS[part.front_end]
    cut = _selection(front_end, select, input, num_sub_clips, sub_clip_seconds, suppress_radius_seconds)
    _check_length(part, front_end, select, cut)
    build = partial(MODELS[backbone].build, num_classes=num_classes, width=width, **settings)
    global_stream = build(augment=None if freeze_global else augment, name="global_stream")
    local_stream = build(augment=_copy(augment), name="local_stream")
    if initial_weights is not None:
        if take_weights(global_stream, initial_weights) and freeze_global:
            raise ValueError("`freeze_global` needs `initial_weights` with a classifier of these classes")
        local_stream.set_weights(global_stream.get_weights())
    inputs, log_mel = log_mel_input(front_end, input)
    if freeze_global:
        _freeze(global_stream)
    heard = global_stream(log_mel)
    source = log_mel if select == "log_mel" else inputs
    sub_clips, start_seconds, classes = cut([source, heard["clipwise"], heard["framewise"]])
    each = ops.reshape(sub_clips, (-1, *sub_clips.shape[2:]))  # (batch * clips, frames, mel_bins) or (..., samples)
    if select == "waveform":
        each = LogMel(front_end, name="local_front_end")(each)
    by_clip = ops.reshape(local_stream(each)["clipwise"], (-1, sub_clips.shape[1], num_classes))
    local = SUB_CLIP_POOLINGS[sub_clip_pooling](by_clip)
    outputs = {
        "clipwise": pooled(ops.stack([heard["clipwise"], local], axis=1)),
        "global": heard["clipwise"],
        "local": local,
        "framewise": heard["framewise"],
        "embedding": heard["embedding"],
        "start_seconds": start_seconds,
        "classes": classes,
    }
    return keras.Model(inputs, outputs, name=name)


BACKBONES = tuple(entry.settings["backbone"] for entry in MODELS.values() if entry.builder == "gl_at")
"""What both streams can be made of."""


def backbone_of(name: str) -> Backbone:
    """One of `BACKBONES` -> its front end and its output frames.

    >>> backbone_of("talnet").seconds_per_output
    0.1
    """
    if name not in BACKBONES:
        raise ValueError(f"`backbone` must be one of {', '.join(BACKBONES)}, received {name!r}")
    return import_module(f"kerastag.models.{MODELS[name].module}").BACKBONE


def pooled(probabilities: Any) -> Any:
    """P, `(batch, parts, classes)` -> `(batch, classes)`: the mean of the maximum and the average.

    >>> ops.convert_to_numpy(pooled(ops.convert_to_tensor([[[0.0], [1.0]]]))).tolist()
    [[0.75]]
    """
    return 0.5 * (ops.max(probabilities, axis=1) + ops.mean(probabilities, axis=1))


SUB_CLIP_POOLINGS: dict[str, Callable[[Any], Any]] = {
    "max_average": pooled,
    "max": lambda probabilities: ops.max(probabilities, axis=1),
}
"""What makes one of the probabilities of all sub-clips."""


def _copy(augment: keras.layers.Layer | None) -> keras.layers.Layer | None:
    return None if augment is None else type(augment).from_config(copy.deepcopy(augment.get_config()))


def _freeze(stream: keras.Model) -> None:
    stream.trainable = False
    # Keras tells every layer of a model that it is training, whatever the call says.
    for layer in stream.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def _selection(
    front_end: FrontEnd,
    select: str,
    input: str,
    num_sub_clips: int,
    sub_clip_seconds: float,
    suppress_radius_seconds: float,
) -> ClassWiseClipSelect:
    if select not in INPUTS:
        raise ValueError(f"`select` must be one of {', '.join(INPUTS)}, received {select!r}")
    if select == "waveform" and input != "waveform":
        raise ValueError(f"`select` must be 'log_mel' where `input` is not 'waveform', received {select!r}")
    rate = front_end.frames_per_second if select == "log_mel" else front_end.sample_rate
    return ClassWiseClipSelect(
        num_sub_clips, sub_clip_seconds, rate, suppress_radius_seconds, return_windows=True, name="select"
    )


def _check_length(part: Backbone, front_end: FrontEnd, select: str, cut: ClassWiseClipSelect) -> None:
    frames = cut.length if select == "log_mel" else front_end.num_frames(cut.length)
    if frames < part.frames_per_output:
        raise ValueError(
            f"`sub_clip_seconds` must be at least {part.seconds_per_output:g}, an output frame of the backbone, "
            f"received {cut.sub_clip_seconds!r}"
        )
