"""What a run is trained on: its clips, with the answers of a review, and their embeddings."""

from dataclasses import replace

import numpy as np

from kerastag.audio.channels import parse_channel
from kerastag.custom.answers import apply_answers, read_answers
from kerastag.custom.background import find_similar_background
from kerastag.custom.clips import Clips, load_clips
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import KINDS, Embeddings, Kind, PretrainedBackbone, embed_clips
from kerastag.fetch import get_cache_folder
from kerastag.training.run_folder import RunFolder

__all__ = ["embed_run_clips", "list_kinds", "load_run_clips"]


def load_run_clips(config: CustomConfig, sample_rate: int) -> Clips:
    """List the clips of a run, with the answers of the review of another run if there are any.

    Raises:
        FileNotFoundError: There is no such folder, list or review.
        ValueError: The list, the folds, the background or the answers are invalid.
    """
    clips = load_clips(config, sample_rate)
    if config.reviews is None:
        return clips
    return apply_answers(clips, read_answers(RunFolder.open(config.reviews).reviews_path))


def list_kinds(config: CustomConfig) -> tuple[Kind, ...]:
    """List the kinds of segments whose embeddings a run needs."""
    return KINDS if config.segments == "best" else (config.segments,)


def embed_run_clips(config: CustomConfig, backbone: PretrainedBackbone, clips: Clips) -> tuple[Clips, Embeddings]:
    """Compute or read the embeddings of the clips of a run, and select clips.

    Returns:
        The clips that can be read, without synthetic background that is like a class; and their embeddings, with those
        of a quiet copy of each clip where `quiet_copies` is set.

    Raises:
        ValueError: No clip of a class can be read.
    """
    cache_folder = get_cache_folder() / "embeddings"
    channel, kinds = parse_channel(config.channel), list_kinds(config)
    embeddings = embed_clips(backbone, clips, config.max_seconds, cache_folder, channel, kinds=kinds)
    selected = np.flatnonzero(embeddings.is_readable & ~find_similar_background(clips, embeddings.clip))
    clips, embeddings = clips.select(selected), embeddings.select(selected)
    if config.quiet_copies:
        options = config.max_seconds, cache_folder, channel, config.gain_db, kinds
        embeddings = replace(embeddings, quiet_bags=embed_clips(backbone, clips, *options).bags)
    return clips, embeddings
