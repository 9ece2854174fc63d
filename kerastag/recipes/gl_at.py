"""GL-AT: a global stream hears the clip, a local one the sub-clips that the first chooses; any backbone.

Wang et al., 2021, tables 1 and 2 and figure 2. On all of AudioSet, mAP with GL-AT, and of the backbone alone as
reproduced there: TALNet .401 (.368), CNN10 .408 (.382), ResNet38 .438 (.429), AT-SCA .413 (.392).
`--streams global` is the backbone alone, trained in the same way.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kerastag.models import MODELS
from kerastag.recipes import _run, _waveform
from kerastag.recipes._data import Data


@dataclass(kw_only=True)
class Settings(_waveform.WaveformSettings):
    """Settings of GL-AT; the defaults are the published run of CNN10 with GL-AT.

    Args:
        backbone: of both streams.
        streams: `both`, or `global` alone: the backbone without GL-AT.
        num_sub_clips: sub-clips, at least 1.
        sub_clip_seconds: length of a sub-clip.
        select: what sub-clips are cut from: `log_mel` runs the front end once, `waveform` once a stream.
        suppress_radius_seconds: frames so near to a chosen one are left out for the classes still to choose.
        sub_clip_pooling: of the probabilities of the sub-clips: `max_average`, the paper's, or `max`.
        freeze_global: leave the global stream as `initial_weights` have it, and train the local one.
        initial_weights: what the streams begin with: a `.keras` file of the backbone or the name of published weights.
        learning_rate: of Adam, at its highest; 0 takes 1e-3 from scratch and 2e-4 from `initial_weights`.
    """

    # Other recipes fix what is a setting here; mypy wants a class variable to stay one.
    backbone: Literal["talnet", "cnn10", "resnet38", "at_sca", "mn"] = "cnn10"  # type: ignore[misc]
    streams: Literal["both", "global"] = "both"
    num_sub_clips: int = 5
    sub_clip_seconds: float = 3.0
    select: Literal["log_mel", "waveform"] = "log_mel"
    suppress_radius_seconds: float = 0.0
    sub_clip_pooling: Literal["max_average", "max"] = "max_average"
    freeze_global: bool = False
    initial_weights: str | None = None
    learning_rate: float = 0.0

    def __post_init__(self) -> None:
        if not self.learning_rate:
            self.learning_rate = 2e-4 if self.initial_weights else 1e-3
        super().__post_init__()
        if self.freeze_global and not self.initial_weights:
            raise ValueError("`freeze_global` must come with `initial_weights`: what never learns cannot choose")

    def further_figures(self, data: Data, model: Any) -> dict[str, Any]:
        from kerastag.recipes._gl_at_windows import localized

        return localized(self, data, model) if self.streams == "both" else {}


def build(settings: Settings, data: Data) -> Any:
    import keras

    alone = None
    if settings.initial_weights or settings.streams == "global":
        alone = MODELS[settings.backbone].build(**settings.network(data))
    if settings.initial_weights and _begin_with(alone, settings.initial_weights) and settings.freeze_global:
        raise ValueError(
            f"`freeze_global` needs `initial_weights` of these {data.train.num_classes} classes: "
            f"the classifier of {settings.initial_weights} is for others"
        )
    if settings.streams == "global":
        return alone
    # The global stream draws what the backbone alone would: weights, dropout, augmentation.
    keras.utils.set_random_seed(settings.seed)
    network = settings.network(data)
    clip_seconds = settings.crop_seconds or data.train.x_shape[1] / data.train.packs[0].sample_rate
    if settings.sub_clip_seconds > clip_seconds:
        raise ValueError(
            f"`sub_clip_seconds` must be at most the {clip_seconds:g} s that are trained on, "
            f"received {settings.sub_clip_seconds}"
        )
    return MODELS[f"gl_at_{settings.backbone}"].build(
        **network,
        num_sub_clips=settings.num_sub_clips,
        sub_clip_seconds=settings.sub_clip_seconds,
        select=settings.select,
        suppress_radius_seconds=settings.suppress_radius_seconds,
        sub_clip_pooling=settings.sub_clip_pooling,
        freeze_global=settings.freeze_global,
        initial_weights=alone,
    )


def _begin_with(model: Any, weights: str) -> tuple[str, ...]:
    """Put in published weights, or those of a file; say and return which layers they have for other classes."""
    from kerastag.models.initial_weights import take_weights
    from kerastag.tagger import model_file

    path = model_file(weights)
    kept = take_weights(model, path)
    left_out = f", but for {', '.join(kept)}: it has other classes" if kept else ""
    print(f"begins with {path}{left_out}", file=sys.stderr)
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    from kerastag.recipes._gl_at_synthetic import on_made_up_scenes

    return _run.main(Settings, build, "gl_at", argv, without_data=on_made_up_scenes)


if __name__ == "__main__":
    sys.exit(main())
