"""Networks that take waveforms: CNN10, ResNet38, TALNet, AT-SCA and MN.

`kerastag pack audio` writes the packs. Every mini-batch is class-balanced, clips are mixed in pairs, and SpecAugment
masks stripes of the log-mel spectrogram, as PANNs trains. Deviation: PANNs mixes log-mel spectrograms; here waveforms
are mixed, before the front end.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kerastag._provenance import package_versions
from kerastag.card import Card
from kerastag.data.batches import AudioFileBatches, BalancedSampler, Batches, WaveformBatches
from kerastag.dsp import FRONT_ENDS, FrontEnd
from kerastag.models import MODELS
from kerastag.recipes._recipe import Recipe
from kerastag.recipes._synthetic import run_on_synthetic_sounds
from kerastag.training.config import TrainingConfig, check_value
from kerastag.training.run_data import RunData
from kerastag.training.run_folder import RunFolder

__all__ = ["WaveformConfig", "WaveformTask", "find_front_end", "waveform_recipe"]


@dataclass(frozen=True, kw_only=True)
class WaveformConfig(TrainingConfig):
    """Configuration of a network that takes waveforms; the defaults are the published run.

    Args:
        width: Factor on every number of channels, above 0.
        dropout_factor: Factor on every dropout rate, from 0 to 1; a narrow network learns faster with less.
        crop_seconds: Length of the random crop to train on, seconds; 0 for whole clips.
        gain_db: Largest attenuation of a training clip, drawn at random for each clip of a mini-batch, dB; 0 for none,
            as in both papers. A device in a quiet room records sounds 30 to 50 dB below those of a data set.
        spec_augment: Whether to mask two stripes of up to 64 frames and two of up to 8 mel bands in training.
        decoder: Where training waveforms come from: the rows of the pack, or `tfio`, which decodes and resamples the
            recordings in `recordings_dir` inside tf.data and needs tensorflow-io and TensorFlow 2.16.
        recordings_dir: Folder of the recordings that the training packs name, for `tfio`.
    """

    steps: int = 800_000
    batch_size: int = 32
    mixup: float = 1.0
    width: float = 1.0
    dropout_factor: float = 1.0
    crop_seconds: float = 0.0
    gain_db: float = 0.0
    spec_augment: bool = True
    decoder: Literal["pack", "tfio"] = "pack"
    recordings_dir: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_value("width", self.width, self.width > 0, "above 0")
        check_value("dropout_factor", self.dropout_factor, 0 <= self.dropout_factor <= 1, "from 0 to 1")
        check_value("crop_seconds", self.crop_seconds, self.crop_seconds >= 0, "at least 0")
        check_value("gain_db", self.gain_db, 0 <= self.gain_db < math.inf, "at least 0 and finite")
        has_folder = self.decoder == "pack" or self.recordings_dir is not None
        check_value("recordings_dir", self.recordings_dir, has_folder, "a folder where `decoder` is tfio")


class WaveformTask:
    """Training of a network that takes waveforms.

    Args:
        backbone: Name of the model in `kerastag.models.MODELS`.
    """

    def __init__(self, backbone: str) -> None:
        self.backbone = backbone

    def build_model(self, config: WaveformConfig, data: RunData) -> Any:
        return MODELS[self.backbone].build(**backbone_arguments(self.backbone, config, data))

    def batches(self, config: WaveformConfig, data: RunData, sampler: BalancedSampler, folder: RunFolder) -> Batches:
        samples = round(config.crop_seconds * data.sample_rate) or None
        batches = WaveformBatches(data.train, sampler, data.train_rows, samples, config.mixup, config.gain_db)
        if config.decoder == "pack":
            return batches
        import keras

        if keras.backend.backend() != "tensorflow":
            raise ValueError(f"`decoder` must be pack on the backend {keras.backend.backend()}; received: 'tfio'")
        assert config.recordings_dir is not None
        return AudioFileBatches.create(batches, data.train.packs, config.recordings_dir)

    def card(self, config: WaveformConfig, data: RunData) -> Card:
        return waveform_card(self.backbone, data)

    def extra_metrics(self, config: WaveformConfig, data: RunData, model: Any) -> Mapping[str, Any]:
        return {}


def backbone_arguments(backbone: str, config: WaveformConfig, data: RunData) -> dict[str, Any]:
    """Return the arguments of a backbone's builder.

    Raises:
        ValueError: The packs hold embeddings, or waveforms at another sample rate than that of the front end.
    """
    from kerastag.layers.spec_augment import SpecAugment

    path, sample_rate = data.train.packs[0].path, find_front_end(backbone).sample_rate
    if len(data.train.x_shape) != 2:
        raise ValueError(f"{path}: must hold waveforms for this system (`kerastag pack audio`); it holds embeddings")
    if data.sample_rate != sample_rate:
        raise ValueError(
            f"{path}: must hold waveforms at {sample_rate} Hz, as "
            f"`kerastag pack audio --sample-rate {sample_rate}` writes them; received: {data.sample_rate} Hz"
        )
    dropout_rates = MODELS[backbone].dropout_rates()
    return {
        **{name: rate * config.dropout_factor for name, rate in dropout_rates.items()},
        "num_classes": data.train.num_classes,
        "width": config.width,
        "input": "waveform",
        "augment": SpecAugment(name="spec_augment") if config.spec_augment else None,
    }


def find_front_end(backbone: str) -> FrontEnd:
    """Return the front end of a backbone."""
    return FRONT_ENDS[str(MODELS[backbone].front_end)]


def waveform_card(backbone: str, data: RunData) -> Card:
    """Return the card of a tagger that was trained on waveforms."""
    from kerastag.models.two_stream import get_backbone

    front_end = find_front_end(backbone)
    return Card(
        labels=data.labels,
        sample_rate=front_end.sample_rate,
        window_seconds=data.train.x_shape[1] / front_end.sample_rate,
        seconds_per_frame=get_backbone(backbone).seconds_per_output,
        front_end=front_end.as_dict(),
        origin=f"trained by kerastag on {', '.join(sorted(data.class_counts))}",
        versions=package_versions(),
    )


def waveform_recipe(name: str, description: str, **defaults: Any) -> Recipe:
    """Declare the recipe of a network that takes waveforms.

    Args:
        name: Name of the recipe and of its model.
        description: Docstring of the module.
        **defaults: Values of configuration fields that make it this system.
    """

    def run_synthetic(recipe: Recipe, config: WaveformConfig, folder: RunFolder) -> None:
        run_on_synthetic_sounds(recipe, config, folder, sample_rate=find_front_end(name).sample_rate)

    return Recipe(name, description, "waveforms", WaveformConfig, run_synthetic, WaveformTask(name), defaults=defaults)
