"""What the recipes that learn from sound share: settings, and the clips they hear without data.

`python -m kerastag pack audio` writes the packs. Every mini-batch is class-balanced, clips are mixed up two by two, and
SpecAugment blanks stripes of the log-mel, as PANNs prepares data. Deviation: PANNs mixes log-mels, here waveforms are
mixed, before the front end.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kerastag.card import Card
from kerastag.data.batches import Batches
from kerastag.data.sampler import BalancedSampler
from kerastag.data.waveform_batches import WaveformBatches
from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.models import MODELS
from kerastag.recipes import _run
from kerastag.recipes._data import Data
from kerastag.recipes._run import SystemSettings, run_network


@dataclass(kw_only=True)
class WaveformSettings(SystemSettings):
    """Settings of the networks that hear; the defaults are the published run.

    Args:
        width: factor on every number of channels, above 0.
        dropout_factor: on every rate of dropout, from 0 to 1; a narrow network learns faster with less.
        crop_seconds: length of the random crop that is trained on; 0 takes stored clips whole.
        spec_augment: blank two stripes of up to 64 frames and two of up to 8 bands while training.
    """

    # In `MODELS`; a recipe names it.
    backbone: ClassVar[str]

    steps: int = 800_000
    batch_size: int = 32
    mixup: float = 1.0
    width: float = 1.0
    dropout_factor: float = 1.0
    crop_seconds: float = 0.0
    spec_augment: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width <= 0:
            raise ValueError(f"`width` must be above 0, received {self.width}")
        if not 0 <= self.dropout_factor <= 1:
            raise ValueError(f"`dropout_factor` must be from 0 to 1, received {self.dropout_factor}")
        if self.crop_seconds < 0:
            raise ValueError(f"`crop_seconds` must be at least 0, received {self.crop_seconds}")

    @property
    def front_end(self) -> FrontEnd:
        """What turns a waveform into the network's input."""
        return FRONT_ENDS[str(MODELS[self.backbone].front_end)]

    def network(self, data: Data) -> dict[str, Any]:
        """What the builders of `kerastag.models` take.

        Raises:
            ValueError: the packs hold embeddings, or waveforms of another sample rate than the front end's.
        """
        pack = data.train.packs[0]
        if len(data.train.x_shape) != 2:
            raise ValueError(
                f"{pack.path}: holds embeddings; this system learns from waveforms (`kerastag pack audio`)"
            )
        wanted = self.front_end.sample_rate
        if pack.sample_rate != wanted:
            raise ValueError(
                f"{pack.path}: must hold waveforms of {wanted} Hz, has {pack.sample_rate} Hz; write it with "
                f"`kerastag pack audio --sample_rate {wanted}`"
            )
        from kerastag.layers.spec_augment import SpecAugment

        rates = MODELS[self.backbone].dropout_rates()
        return {
            **{name: rate * self.dropout_factor for name, rate in rates.items()},
            "num_classes": data.train.num_classes,
            "width": self.width,
            "input": "waveform",
            "augment": SpecAugment(name="spec_augment") if self.spec_augment else None,
        }

    def training_batches(self, data: Data, sampler: BalancedSampler) -> Batches:
        samples = round(self.crop_seconds * data.train.packs[0].sample_rate) or None
        return WaveformBatches(data.train, sampler, data.train_rows, samples, self.mixup)

    def card(self, data: Data) -> Card:
        """The card of a tagger that was trained on these clips."""
        from kerastag.models.two_stream import backbone_of

        return Card(
            labels=data.labels,
            sample_rate=self.front_end.sample_rate,
            window_seconds=data.train.x_shape[1] / self.front_end.sample_rate,
            seconds_per_frame=backbone_of(self.backbone).seconds_per_output,
            front_end=self.front_end.as_dict(),
            origin=f"trained by kerastag on {', '.join(sorted(data.class_counts))}",
            versions=_run.versions(),
        )


def build(settings: WaveformSettings, data: Data) -> Any:
    """A recipe's settings and its clips -> the backbone, from the waveform."""
    return MODELS[settings.backbone].build(**settings.network(data))


def main(settings_class: type, build: _run.Build, recipe: str, argv: Sequence[str] | None = None) -> int:
    """A recipe's settings class and model builder -> the recipe's command."""
    return _run.main(settings_class, build, recipe, argv, without_data=_on_made_up_sounds)


def _on_made_up_sounds(settings: WaveformSettings, build: Callable[..., Any], recipe: str) -> None:
    """A recipe on scenes of two seconds with synthesized sounds, at the sample rate that its front end needs."""
    from kerastag.data.mixing import SceneRules
    from kerastag.data.synthetic_events import write_synthetic_scenes

    folder = _run.open_run(settings, recipe)
    data_dir = Path(folder) / "synthetic"
    if not (data_dir / "eval.h5").exists():
        print("making the synthetic sounds", file=sys.stderr)
        sample_rate = settings.front_end.sample_rate
        rules = SceneRules(scene_seconds=2.0, max_event_seconds=1.0, max_events=2)
        write_synthetic_scenes(data_dir, sample_rate=sample_rate, rules=rules, seed=settings.seed)
    run_network(settings, build, recipe, data_dir)
