"""Training of GL-AT: a global stream takes the clip, a local stream the sub-clips that the first selects.

Reference: Wang et al., "A global-local attention framework for weakly labelled audio tagging", 2021.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kerastag.card import Card
from kerastag.models import MODELS
from kerastag.recipes._recipe import Recipe
from kerastag.recipes._synthetic import run_on_synthetic_events
from kerastag.recipes._waveforms import (
    WaveformConfig,
    WaveformTask,
    backbone_arguments,
    find_front_end,
    waveform_card,
)
from kerastag.training.config import check_value
from kerastag.training.run_data import RunData
from kerastag.training.run_folder import RunFolder

__all__ = ["TwoStreamConfig", "TwoStreamTask", "locate_sub_clips", "two_stream_recipe"]


@dataclass(frozen=True, kw_only=True)
class TwoStreamConfig(WaveformConfig):
    """Configuration of GL-AT; the defaults are the published run of CNN10 with GL-AT.

    Args:
        backbone: Backbone of both streams.
        streams: `both`, or `global` for the backbone without GL-AT.
        num_sub_clips: Number of sub-clips, at least 1.
        sub_clip_seconds: Length of a sub-clip, seconds.
        select: What sub-clips are cut from: `log_mel` runs the front end once, `waveform` once per stream.
        suppress_radius_seconds: Frames within this distance of a selected one are skipped for the remaining classes.
        sub_clip_pooling: Pooling of the probabilities of the sub-clips: `max_average`, the paper's, or `max`.
        share: What both streams have in common: the `classifier`, `none` or `all` of their weights.
        frame_scores: Stream whose classifier scores the frames by which sub-clips are selected; `local` needs `share`
            to be `none`.
        freeze_global: Whether the global stream keeps the weights of `initial_weights`, and only the local one trains;
            this needs `share` to be `none`.
        initial_weights: Initial weights of both streams: a `.keras` file of the backbone, or a name of published
            weights.
        learning_rate: Highest learning rate of Adam; 0 for 1e-3 from scratch and 2e-4 from `initial_weights`.
    """

    backbone: Literal["talnet", "cnn10", "resnet38", "at_sca", "mn"] = "cnn10"
    streams: Literal["both", "global"] = "both"
    num_sub_clips: int = 5
    sub_clip_seconds: float = 3.0
    select: Literal["log_mel", "waveform"] = "log_mel"
    suppress_radius_seconds: float = 0.0
    sub_clip_pooling: Literal["max_average", "max"] = "max_average"
    share: Literal["none", "classifier", "all"] = "classifier"
    frame_scores: Literal["global", "local"] = "global"
    freeze_global: bool = False
    initial_weights: str | None = None
    learning_rate: float = 0.0

    def __post_init__(self) -> None:
        if not self.learning_rate:
            object.__setattr__(self, "learning_rate", 2e-4 if self.initial_weights else 1e-3)
        super().__post_init__()
        if self.freeze_global and not self.initial_weights:
            raise ValueError("`freeze_global` must be False without `initial_weights`; received: True")
        if self.streams == "both" and self.share != "none":
            # As the model does, which is built after the packs have been read.
            check_value("share", self.share, not self.freeze_global, "none where `freeze_global` is True")
            check_value("share", self.share, self.frame_scores == "global", "none where `frame_scores` is local")


class TwoStreamTask(WaveformTask):
    """Training of GL-AT, or of its backbone alone."""

    def __init__(self) -> None:
        super().__init__("gl_at")

    def build_model(self, config: Any, data: RunData) -> Any:
        import keras

        arguments = backbone_arguments(config.backbone, config, data)
        alone = None
        if config.initial_weights or config.streams == "global":
            alone = MODELS[config.backbone].build(**arguments)
        if config.initial_weights:
            _load_initial_weights(alone, config)
        if config.streams == "global":
            return alone
        clip_seconds = config.crop_seconds or data.clip_seconds
        if config.sub_clip_seconds > clip_seconds:
            raise ValueError(
                f"`sub_clip_seconds` must be at most the length of the training clips, {clip_seconds:g} s; "
                f"received: {config.sub_clip_seconds}"
            )
        # The global stream draws what the backbone alone would: weights, dropout and augmentation.
        keras.utils.set_random_seed(config.seed)
        return MODELS[f"gl_at_{config.backbone}"].build(
            **backbone_arguments(config.backbone, config, data),
            num_sub_clips=config.num_sub_clips,
            sub_clip_seconds=config.sub_clip_seconds,
            select=config.select,
            suppress_radius_seconds=config.suppress_radius_seconds,
            sub_clip_pooling=config.sub_clip_pooling,
            share=config.share,
            frame_scores=config.frame_scores,
            freeze_global=config.freeze_global,
            initial_weights=alone,
        )

    def card(self, config: Any, data: RunData) -> Card:
        return waveform_card(config.backbone, data)

    def extra_metrics(self, config: Any, data: RunData, model: Any) -> Mapping[str, Any]:
        """Compute how well the sub-clips of the classes that are present lie on their events, where these are known."""
        if config.streams != "both" or not data.has_events:
            return {}
        from kerastag.metrics.localization import compute_localization

        start_seconds, classes = locate_sub_clips(config, data, model)
        sub_clip_seconds = model.get_layer("select").sub_clip_seconds
        result = compute_localization(data.events(), start_seconds, classes, sub_clip_seconds, data.clip_seconds)
        return {"localization": result.as_dict()}


def locate_sub_clips(config: TwoStreamConfig, data: RunData, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Locate the sub-clips that a two-stream model selects in the clips to evaluate on.

    Returns:
        Where the sub-clips begin, seconds, `(clips, N)`, and the classes for which they are selected, `(clips, N)`.
    """
    import keras

    from kerastag.training.evaluation import predict_evaluation

    # A model of these two outputs does not run the local stream.
    selection = keras.Model(model.input, [model.output[name] for name in ("start_seconds", "classes")])
    start_seconds, classes = predict_evaluation(selection, config, data)
    return start_seconds, classes.astype(int)


def two_stream_recipe(name: str, description: str) -> Recipe:
    """Declare the recipe of GL-AT."""

    def run_synthetic(recipe: Recipe, config: TwoStreamConfig, folder: RunFolder) -> None:
        run_on_synthetic_events(recipe, config, folder, sample_rate=find_front_end(config.backbone).sample_rate)

    return Recipe(name, description, "two_streams", TwoStreamConfig, run_synthetic, TwoStreamTask())


def _load_initial_weights(model: Any, config: TwoStreamConfig) -> None:
    from kerastag.models.weights import copy_weights
    from kerastag.tagger import fetch_model

    path = fetch_model(str(config.initial_weights))
    skipped = copy_weights(model, path)
    suffix = f", except {', '.join(skipped)}, which have other classes" if skipped else ""
    print(f"initial weights: {path}{suffix}", file=sys.stderr)
    if skipped and config.freeze_global:
        raise ValueError(
            f"`initial_weights` must have the classes of the clips where `freeze_global` is True; "
            f"received: {config.initial_weights}, which has others"
        )
