"""The tagger: a backbone and a head in one model that takes waveforms."""

from dataclasses import replace

import keras
import numpy as np

from kerastag._keras import flatten_layers
from kerastag.card import Card
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import Backbone
from kerastag.custom.head import fit_model
from kerastag.custom.memory import Waveforms
from kerastag.data.batches import BalancedSampler, WaveformBatches
from kerastag.models.weights import compute_fingerprint
from kerastag.training.config import TrainingConfig
from kerastag.training.optimization import compile_model
from kerastag.training.outputs import select_training_outputs
from kerastag.training.run_folder import RunFolder
from kerastag.training.state import build_optimizer

__all__ = ["build_tagger", "fine_tune", "predict_waveforms", "save_parts"]


def build_tagger(embedder: keras.Model, head: keras.Model) -> keras.Model:
    """Build a model that takes waveforms from an embedder and a head, which shares their layers.

    Args:
        embedder: Model that takes waveforms `(batch, samples)` and predicts embeddings `(batch, segments, features)`.
        head: Model that takes embeddings and predicts `clipwise` and `framewise`.

    Returns:
        Model that predicts `clipwise`, `framewise` and `embedding`, the mean of the embeddings, all float32.
    """
    waveform = keras.Input((None,), name="waveform")
    embeddings = embedder(waveform)
    outputs = {**head(embeddings), "embedding": keras.ops.mean(embeddings, axis=1)}
    named_outputs = {
        name: keras.layers.Activation("linear", dtype="float32", name=name)(output) for name, output in outputs.items()
    }
    return keras.Model(waveform, named_outputs, name="custom")


def fine_tune(tagger: keras.Model, clips: Waveforms, rows: np.ndarray, config: CustomConfig, seed: int) -> None:
    """Train all weights of a tagger on random crops of clips, which are as long as the median clip.

    The batch normalizations of the backbone stay as they are: a few hundred clips would spoil their statistics.

    Args:
        tagger: Model from `build_tagger`.
        clips: Waveforms.
        rows: Row numbers of the clips to train on.
        config: Configuration of the run.
        seed: Seed of the batches.

    Raises:
        FloatingPointError: The loss is no longer finite.
    """
    for layer in flatten_layers(tagger):
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model = select_training_outputs(tagger)
    steps, learning_rate = config.fine_tune_steps, config.fine_tune_learning_rate
    build_optimizer(compile_model(model, TrainingConfig(steps=steps, learning_rate=learning_rate, schedule="cosine")))
    sampler = BalancedSampler(clips.targets[rows], config.fine_tune_batch_size, balance=0.0, seed=seed)
    samples = int(np.median(clips.lengths[rows]))
    fit_model(model, WaveformBatches(clips, sampler, rows, samples), steps, "fine_tune_learning_rate")


def predict_waveforms(tagger: keras.Model, clips: Waveforms, rows: np.ndarray) -> np.ndarray:
    """Predict the probabilities of whole clips, float32 `(rows, classes)`."""
    predictions = [tagger.predict_on_batch(clips.waveforms[row][None])["clipwise"][0] for row in rows]
    return np.stack(predictions).astype(np.float32)


def save_parts(folder: RunFolder, backbone: Backbone, head: keras.Model, card: Card) -> None:
    """Save the two parts of a tagger of seconds, `embedder.keras` and `head.keras`.

    A device runs the embedder once per second. The cards of the two parts have the same fingerprint of the embedder.

    Args:
        folder: Folder of the run.
        backbone: Backbone whose embeddings of seconds the head was trained on.
        head: Model that takes embeddings.
        card: Card of the tagger.
    """
    embedder = keras.Model(backbone.clip_embedder.input, {"embedding": backbone.clip_embedder.output}, name="embedder")
    versions = {**card.versions, "embedder": compute_fingerprint(embedder)}
    embedder_card = Card(
        labels=None,
        sample_rate=card.sample_rate,
        window_seconds=backbone.segment_seconds["seconds"],
        front_end=card.front_end,
        origin=card.origin,
        versions=versions,
    )
    folder.save_model(embedder, embedder_card, folder.embedder_path)
    folder.save_model(head, replace(card, versions=versions), folder.head_path)
