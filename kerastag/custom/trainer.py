"""Training of taggers on some of the clips of a run."""

from functools import cached_property

import keras
import numpy as np

from kerastag.custom.clips import Clips, load_waveform
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import KINDS, Backbone, Embeddings, Kind
from kerastag.custom.head import AttentionHead
from kerastag.custom.memory import Bags, Waveforms
from kerastag.custom.tagger import build_tagger, fine_tune, predict_waveforms

__all__ = ["TaggerTrainer"]


class TaggerTrainer:
    """Trains taggers on some of the clips, and predicts other clips.

    There is one head for each kind of segments. Every training initializes it.

    Args:
        config: Configuration of the run.
        backbone: Pretrained backbone.
        clips: Clips that can be read.
        embeddings: Embeddings of these clips.
    """

    def __init__(self, config: CustomConfig, backbone: Backbone, clips: Clips, embeddings: Embeddings) -> None:
        self.config, self.backbone, self.clips = config, backbone, clips
        self.bags = {
            kind: Bags(embeddings.pad(kind), np.array([len(bag) for bag in embeddings.bags[kind]]), clips.targets)
            for kind in KINDS
        }
        self._heads: dict[Kind, AttentionHead] = {}

    @cached_property
    def waveforms(self) -> Waveforms:
        """Waveforms of all clips, which fine-tuning needs in memory."""
        sample_rate, max_seconds = self.backbone.card.sample_rate, self.config.max_seconds
        waveforms = [load_waveform(clip, sample_rate, max_seconds) for clip in self.clips.audio]
        return Waveforms(waveforms, self.clips.targets)

    def head(self, kind: Kind) -> AttentionHead:
        """Return the head for a kind of segments."""
        if kind not in self._heads:
            num_features = self.bags[kind].x.shape[2]
            self._heads[kind] = AttentionHead(self.config, len(self.clips.class_names), num_features)
        return self._heads[kind]

    def train(self, kind: Kind, rows: np.ndarray, seed: int) -> keras.Model:
        """Train a tagger, which shares the weights of the head and of the backbone.

        Args:
            kind: What a bag consists of.
            rows: Row numbers of the clips to train on.
            seed: Seed of the training.
        """
        head = self.head(kind)
        head.train(self.bags[kind], rows, seed)
        tagger = build_tagger(self.backbone.embedders[kind], head.model)
        if self.config.fine_tune:
            fine_tune(tagger, self.waveforms, rows, self.config, seed)
        return tagger

    def predict(self, tagger: keras.Model, kind: Kind, rows: np.ndarray) -> np.ndarray:
        """Predict the probabilities of clips with the tagger that was trained last, float32 `(rows, classes)`."""
        if self.config.fine_tune:
            return predict_waveforms(tagger, self.waveforms, rows)
        return self.head(kind).predict(self.bags[kind], rows)

    def predict_held_out(self, kind: Kind, train_rows: np.ndarray, test_rows: np.ndarray, seed: int) -> np.ndarray:
        """Train a tagger, predict clips that it was not trained on, and restore the backbone."""
        embedder = self.backbone.embedders[kind]
        weights = embedder.get_weights() if self.config.fine_tune else None
        probabilities = self.predict(self.train(kind, train_rows, seed), kind, test_rows)
        if weights is not None:
            embedder.set_weights(weights)
        return probabilities
