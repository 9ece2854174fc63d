"""The run that is reviewed: its clips, their embeddings, and the recordings that are asked about."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kerastag.audio.channels import parse_channel
from kerastag.card import Card
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import CACHE_NAME, PretrainedBackbone, load_backbone
from kerastag.custom.parts import read_kind
from kerastag.custom.progress import show_progress
from kerastag.custom.run_inputs import embed_run_clips, load_run_clips
from kerastag.data.audio_lists import Recording
from kerastag.fetch import get_cache_folder
from kerastag.review.config import ReviewConfig
from kerastag.review.pool import Pool, embed_pool, find_recordings
from kerastag.review.retraining import HeadTrainer
from kerastag.tagger.presets import fetch_model
from kerastag.training.devices import enable_determinism
from kerastag.training.run_folder import RunFolder

__all__ = ["ReviewedRun", "open_run"]


@dataclass(frozen=True, eq=False)
class ReviewedRun:
    """A finished run with what its review needs.

    Attributes:
        folder: Folder of the run.
        backbone: Backbone of the run.
        trainer: Trainer of heads, with the clips of the run and the pool.
    """

    folder: RunFolder
    backbone: PretrainedBackbone
    trainer: HeadTrainer


def open_run(config: ReviewConfig) -> ReviewedRun:
    """Open a finished run, and embed those of its clips and of the recordings that are not in the cache.

    Args:
        config: Configuration of the review.

    Raises:
        FileNotFoundError: There is no such run or recording.
        ValueError: The run cannot be reviewed, or its recordings have other classes now.
    """
    folder = RunFolder.open(config.run)
    folder.metrics()  # raises if the run is not finished
    run_config = folder.read_config(CustomConfig)
    if folder.system != "custom" or not folder.head_path.is_file() or run_config.fine_tune:
        received = f"{folder.system}{' with fine_tune' if run_config.fine_tune else ''}"
        raise ValueError(
            f"{folder.path}: must be a run of `kerastag learn`, which has head.keras, without fine_tune; received: "
            f"{received}"
        )
    thresholds = folder.metrics("thresholds")["thresholds"]
    enable_determinism()
    head_card = Card.read(folder.head_path)
    backbone = load_backbone(fetch_model(run_config.model))
    clips = load_run_clips(run_config, backbone.card.sample_rate)
    names = () if head_card.labels is None else head_card.labels.names
    if run_config.keep_base:
        names = names[: len(clips.class_names)]  # The classes of the backbone follow.
    if clips.class_names != names:
        raise ValueError(
            f"{clips.source}: must have the classes of {folder.path}, {', '.join(names)}; received: "
            f"{', '.join(clips.class_names)}"
        )
    kind = read_kind(folder)
    clips, embeddings = embed_run_clips(replace(run_config, segments=kind), backbone, clips)
    pool = Pool((), ())
    if config.recordings:
        clip_paths = {clip.path.resolve() for clip in clips.audio if isinstance(clip, Recording)}
        paths = find_recordings(config.recordings, clip_paths)
        cache_path, channel = get_cache_folder() / "embeddings" / CACHE_NAME, parse_channel(run_config.channel)
        pool = embed_pool(backbone, paths, config.window_seconds, cache_path, channel, kind)
    run_config = replace(run_config, seeds=run_config.seeds[:1])
    with show_progress("training without answers"):
        trainer = HeadTrainer(run_config, clips, embeddings.bags[kind], pool, thresholds)
    return ReviewedRun(folder, backbone, trainer)
