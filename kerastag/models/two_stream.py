"""GL-AT of Wang et al., "A global-local attention framework for weakly labelled audio tagging", 2021.

A global stream predicts the classes of a clip. Around the frames where its most probable classes are most probable,
sub-clips are selected, which a local stream of the same architecture tags again.
"""

import copy
import os
from importlib import import_module
from typing import Any

import keras
from keras import ops

from kerastag.dsp import FRONT_ENDS
from kerastag.layers._arguments import check_choice, check_integer
from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect
from kerastag.layers.log_mel import LogMel
from kerastag.models import MODELS
from kerastag.models.backbones.backbone import FEATURES, INPUTS, Backbone, build_input
from kerastag.models.weights import copy_weights

__all__ = ["BACKBONES", "get_backbone", "gl_at"]

BACKBONES = tuple(entry.arguments["backbone"] for entry in MODELS.values() if entry.builder == "gl_at")
"""Names of the backbones that `gl_at` takes."""
SUB_CLIP_POOLINGS = ("max_average", "max")
SHARES = ("none", "classifier", "all")
FRAME_SCORES = ("global", "local")


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
    share: str = "classifier",
    frame_scores: str = "global",
    freeze_global: bool = False,
    initial_weights: str | os.PathLike[str] | keras.Model | None = None,
    dropout: float | None = None,
    block_dropout: float | None = None,
    residual_dropout: float | None = None,
    augment: keras.layers.Layer | None = None,
    name: str = "gl_at",
) -> keras.Model:
    """Build GL-AT: two streams of one backbone, the second on sub-clips that the first one selects.

    The global stream takes the clip and predicts `global` and `framewise`. `ClassWiseClipSelect` selects N sub-clips,
    one for each of the most probable classes. The local stream, of the same architecture, takes every sub-clip. With
    `P`, the mean of the maximum and the average,

        local = P(predictions of the sub-clips),  clipwise = P(global, local)

    Args:
        num_classes: Number of classes, at least 1.
        backbone: Architecture of both streams, one of `talnet`, `cnn10`, `resnet38`, `at_sca`, `mn`.
        num_sub_clips: Number of sub-clips, N, at least 1. It is limited to the number of classes.
        sub_clip_seconds: Length of a sub-clip in seconds, at least one output frame of the backbone.
        width: Factor on the number of channels of the backbone, in (0, 100].
        input: Input of the model: `log_mel`, shape `(batch, frames, mel_bins)`, or `waveform`, `(batch, samples)`.
        select: Signal that sub-clips are taken from: `log_mel`, so that the front end runs once, or `waveform`, which
            needs `input="waveform"` and runs the front end on every sub-clip.
        suppress_radius_seconds: Radius in seconds around a selected frame in which no other sub-clip is centered, see
            `ClassWiseClipSelect`, at least 0. The paper has 0.
        sub_clip_pooling: Pooling over the sub-clips: `max_average`, the paper's `P`, or `max`. In the average, a
            class loses probability to every sub-clip that was selected for another class and does not contain it.
        share: What both streams have in common: `classifier`, the dense layers after the features, the paper's theta_C;
            `none`, each has weights of its own; `all`, both streams are one network.
        frame_scores: Stream whose classifier predicts `framewise` from the features of the global stream, by which
            sub-clips are selected: `global`, or `local`, which needs `share="none"`.
        freeze_global: Whether the global stream stays as it is in training: neither its weights nor the averages of
            its batch normalization change, and it has neither dropout nor augmentation. It needs `share="none"`.
        initial_weights: Model of the backbone alone, or path of its `.keras` file, whose weights both streams start
            with. If its number of classes differs, both start with the same new classifier.
        dropout: Dropout rate of both streams, in [0, 1); None for the default of the backbone.
        block_dropout: Dropout rate after a block of `cnn10`, `resnet38` or `at_sca`, in [0, 1); None for the default.
        residual_dropout: Dropout rate inside a residual block of `resnet38`, in [0, 1); None for the default.
        augment: Layer on the log-mel such as `SpecAugment`, of which each network has a copy; None for none.
        name: Name of the model.

    Returns:
        Model with a dict of outputs: `clipwise`, `global`, `local`, `(batch, num_classes)`; of the global stream
        `framewise`, `(batch, output_frames, num_classes)`, and `embedding`, `(batch, channels)`; of the sub-clips
        `start_seconds`, `(batch, N)`, and the class of each, `classes`, `(batch, N)`, int32. A clip shorter than a
        sub-clip is padded with zeros.

    Raises:
        FileNotFoundError: The file of `initial_weights` does not exist.
        ValueError: An argument is outside its range, or `initial_weights` are not those of this backbone.

    >>> model = gl_at(num_classes=10, backbone="mn", width=0.1, num_sub_clips=3)
    >>> model.output["local"].shape, model.output["start_seconds"].shape
    ((None, 10), (None, 3))

    Reference: Wang et al., 2021, equations 1 to 3 and section 2.2. The sources differ in how the streams are coupled.
    Section 2.1 feeds sub-clips to "another feature extractor" and applies equations 1 and 2 to both streams, with one
    theta_C, and in table 2 training the local stream changes the global one: `share="classifier"`. Section 3.1, "the
    same feature extractor and classifier as in the global stream", can also be read as `all`, or as `none`, one
    architecture twice. The public code has `share="none"`,
    `frame_scores="local"`, `freeze_global`, `initial_weights` and, as the radius, a quarter of a sub-clip. An earlier
    public version has `share="all"` and `sub_clip_pooling="max"`.
    """
    check_choice("sub_clip_pooling", sub_clip_pooling, SUB_CLIP_POOLINGS)
    check_choice("share", share, SHARES)
    check_choice("frame_scores", frame_scores, FRAME_SCORES)
    if freeze_global and share != "none":
        raise ValueError(f"`share` must be none where `freeze_global` is True; received: {share!r}")
    if frame_scores == "local" and share != "none":
        raise ValueError(f"`share` must be none where `frame_scores` is local; received: {share!r}")
    check_integer("num_classes", num_classes)
    architecture = get_backbone(backbone)
    select_sub_clips = _build_selection(
        architecture, select, input, num_sub_clips, sub_clip_seconds, suppress_radius_seconds
    )
    front_end = FRONT_ENDS[architecture.front_end]
    inputs, log_mel = build_input(front_end, input)
    rates = {"dropout": dropout, "block_dropout": block_dropout, "residual_dropout": residual_dropout}
    arguments = {"num_classes": num_classes, "width": width, **_select_rates(backbone, rates)}
    global_augment = None if freeze_global else augment
    # The global stream is complete before anything of the local one draws a seed, as the backbone alone would be.
    global_stream = MODELS[backbone].build(**arguments, augment=global_augment, name="global_stream")
    local_stream = global_stream
    if share != "all":
        local_augment = augment and type(augment).from_config(copy.deepcopy(augment.get_config()))
        local_stream = MODELS[backbone].build(**arguments, augment=local_augment, name="local_stream")
    if initial_weights is not None:
        if copy_weights(global_stream, initial_weights, front_end=front_end) and freeze_global:
            raise ValueError("`freeze_global` must be False if `initial_weights` are for other classes; received: True")
        local_stream.set_weights(global_stream.get_weights())
    if freeze_global:
        _freeze(global_stream)

    classifier = None  # the stream whose classifier is applied to both streams, where they are two networks
    if share == "classifier":
        classifier = global_stream
        predictions = _classify(classifier, _get_body(global_stream)(log_mel))
    elif frame_scores == "local":
        classifier = local_stream
        outputs = {**global_stream.output, FEATURES: global_stream.get_layer(FEATURES).output}
        predictions = keras.Model(global_stream.input, outputs, name="global_stream")(log_mel)
        predictions["framewise"] = _classify(classifier, predictions[FEATURES])["framewise"]
    else:
        predictions = global_stream(log_mel)
    source = log_mel if select == "log_mel" else inputs
    sub_clips, start_seconds, classes = select_sub_clips([source, predictions["clipwise"], predictions["framewise"]])
    flat = ops.reshape(sub_clips, (-1, *sub_clips.shape[2:]))  # (batch * N, frames, mel_bins) or (batch * N, samples)
    if select == "waveform":
        flat = LogMel(front_end, name="local_front_end")(flat)
    local = _classify(classifier, _get_body(local_stream)(flat)) if classifier else local_stream(flat)
    local = ops.reshape(local["clipwise"], (-1, sub_clips.shape[1], num_classes))
    local = ops.max(local, axis=1) if sub_clip_pooling == "max" else _pool(local)
    outputs = {
        "clipwise": _pool(ops.stack([predictions["clipwise"], local], axis=1)),
        "global": predictions["clipwise"],
        "local": local,
        "framewise": predictions["framewise"],
        "embedding": predictions["embedding"],
        "start_seconds": start_seconds,
        "classes": classes,
    }
    return keras.Model(inputs, outputs, name=name)


def get_backbone(name: str) -> Backbone:
    """Return the description of a backbone that `gl_at` takes.

    >>> get_backbone("talnet").seconds_per_output
    0.1
    """
    check_choice("backbone", name, BACKBONES)
    return import_module(f"kerastag.models.{MODELS[name].module}").BACKBONE


def _get_body(stream: keras.Model) -> keras.Model:
    """Return the layers of a stream up to its features."""
    return keras.Model(stream.input, stream.get_layer(FEATURES).output, name=stream.name)


def _classify(stream: keras.Model, features: Any) -> dict[str, Any]:
    """Apply the layers of a stream after its features to other features."""
    # `call` applies them one by one: a `.keras` file keeps that a layer is used twice only where neither is nested.
    return keras.Function(stream.get_layer(FEATURES).output, stream.output).call(features)


def _pool(probabilities: Any) -> Any:
    """Compute `P`, the mean of the maximum and the average, over the second axis of `(batch, parts, classes)`."""
    return 0.5 * (ops.max(probabilities, axis=1) + ops.mean(probabilities, axis=1))


def _select_rates(backbone: str, rates: dict[str, float | None]) -> dict[str, float]:
    """Return the rates that are not None; raise if the backbone has no such rate."""
    names = MODELS[backbone].dropout_rates()
    for name, rate in rates.items():
        if rate is not None and name not in names:
            raise ValueError(f"`{name}` must be None for the backbone {backbone}; received: {rate!r}")
    return {name: rate for name, rate in rates.items() if rate is not None}


def _freeze(stream: keras.Model) -> None:
    stream.trainable = False
    # Keras passes `training=True` to every layer of a model in training, trainable or not.
    for layer in stream.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def _build_selection(
    architecture: Backbone,
    select: str,
    input: str,
    num_sub_clips: int,
    sub_clip_seconds: float,
    suppress_radius_seconds: float,
) -> ClassWiseClipSelect:
    check_choice("select", select, INPUTS)
    if select == "waveform" and input != "waveform":
        raise ValueError(f"`select` must be 'log_mel' unless `input` is 'waveform'; received: {select!r}")
    front_end = FRONT_ENDS[architecture.front_end]
    rate = front_end.frames_per_second if select == "log_mel" else front_end.sample_rate
    layer = ClassWiseClipSelect(
        num_sub_clips, sub_clip_seconds, rate, suppress_radius_seconds, return_windows=True, name="select"
    )
    frames = layer.length if select == "log_mel" else front_end.count_frames(layer.length)
    if frames < architecture.frames_per_output:
        raise ValueError(
            f"`sub_clip_seconds` must be at least {architecture.seconds_per_output:g}, an output frame of the "
            f"backbone; received: {sub_clip_seconds!r}"
        )
    return layer
