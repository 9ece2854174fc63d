"""The tagger: a backbone and a head in one model that takes waveforms, trained on some of the clips of a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from kerastag._keras import flatten_layers
from kerastag.custom.clips import Clips, read_windows
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import Embeddings, Kind, PretrainedBackbone, make_bag
from kerastag.custom.head import AttentionHead, Bags, compile_training_model, encode_targets, fit_model
from kerastag.data.batches import BalancedSampler, WaveformBatches

__all__ = ["AttentionHead", "Bags", "TaggerTrainer", "Waveforms", "build_tagger", "predict_windows"]


@dataclass(frozen=True, eq=False)
class Waveforms:
    """Waveforms of any length in memory, which batches are drawn from like from packs.

    Attributes:
        waveforms: One array of samples per clip, float32.
        targets: Targets, float32 `(clips, classes)`, with NaN where a label is not known.
    """

    waveforms: Sequence[np.ndarray]
    targets: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of samples of every clip, int `(clips,)`."""
        return np.array([len(waveform) for waveform in self.waveforms])

    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray:
        """Return one part of each of some clips, float32 `(batch, samples)`, with zeros after the end of a clip."""
        crops = np.zeros((len(indices), samples), np.float32)
        for crop, index, start in zip(crops, indices, starts, strict=True):
            part = self.waveforms[index][start : start + samples]
            crop[: len(part)] = part
        return crops


class TaggerTrainer:
    """Trains taggers on some of the clips of a run, which can all be read, and predicts other clips.

    There is one head for each kind of segments. Every training initializes it.
    """

    def __init__(
        self, config: CustomConfig, backbone: PretrainedBackbone, clips: Clips, embeddings: Embeddings
    ) -> None:
        self.config, self.backbone, self.clips = config, backbone, clips
        self.bags = {kind: Bags.pad(bags, clips.targets, clips.is_known) for kind, bags in embeddings.bags.items()}
        self._training_bags = self.bags if embeddings.quiet_bags is None else _add_copies(embeddings, clips)
        self._num_windows = embeddings.num_windows
        self._heads: dict[Kind, AttentionHead] = {}
        self._waveforms: dict[int, np.ndarray] = {}

    def train_head(self, kind: Kind, rows: np.ndarray, seed: int) -> AttentionHead:
        """Train the head for a kind of segments on clips, and on their quiet copies if there are any; return it."""
        if kind not in self._heads:
            num_features = self.bags[kind].x.shape[2]
            self._heads[kind] = AttentionHead(self.config, len(self.clips.class_names), num_features)
        if self._training_bags is not self.bags:
            rows = np.concatenate([rows, rows + len(self.clips)])
        self._heads[kind].train(self._training_bags[kind], rows, seed)
        return self._heads[kind]

    def train(self, kind: Kind, rows: np.ndarray, seed: int) -> tuple[keras.Model, AttentionHead]:
        """Train a tagger on clips; return it and its head, which shares its layers, as the backbone does."""
        head = self.train_head(kind, rows, seed)
        tagger = build_tagger(self.backbone.embedders[kind], head.model)
        if self.config.fine_tune:
            self._fine_tune(tagger, rows, seed)
            if (self._num_windows[rows] > 1).any():  # One window does not show the head what else is in a recording.
                bags = Bags.pad(
                    [self._embed(kind, row) for row in rows], self.clips.targets[rows], self.clips.is_known[rows]
                )
                head.train(bags, np.arange(len(rows)), seed)
        return tagger, head

    def predict(self, tagger: keras.Model, kind: Kind, rows: np.ndarray) -> np.ndarray:
        """Predict the probabilities of clips with the tagger that was trained last, float32 `(rows, classes)`."""
        if self.config.fine_tune:
            return np.stack([self._predict_clip(tagger, kind, row) for row in rows])
        return self._heads[kind].predict(self.bags[kind], rows)

    def predict_held_out(self, kind: Kind, train_rows: np.ndarray, test_rows: np.ndarray, seed: int) -> np.ndarray:
        """Train a tagger, predict clips that it was not trained on, and restore the backbone."""
        if not self.config.fine_tune:
            return self.train_head(kind, train_rows, seed).predict(self.bags[kind], test_rows)
        embedder = self.backbone.embedders[kind]
        weights = embedder.get_weights()
        tagger, _ = self.train(kind, train_rows, seed)
        probabilities = self.predict(tagger, kind, test_rows)
        embedder.set_weights(weights)
        return probabilities

    def _fine_tune(self, tagger: keras.Model, rows: np.ndarray, seed: int) -> None:
        """Train all weights of a tagger on random crops of clips, as long as the median clip, at random levels.

        Of a clip of several windows, the one in which the tagger predicts its classes best is used: a random crop of a
        long recording would rarely contain them. The batch normalizations of the backbone stay as they are: a few
        hundred clips would spoil their statistics.
        """
        windows = [self._select_window(tagger, row) for row in rows]
        waveforms = Waveforms(windows, encode_targets(self.clips.targets[rows], self.clips.is_known[rows]))
        for layer in flatten_layers(tagger):
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        steps = self.config.fine_tune_steps
        model = compile_training_model(tagger, steps, self.config.fine_tune_learning_rate)
        sampler = BalancedSampler(self.clips.targets[rows], self.config.fine_tune_batch_size, balance=0.0, seed=seed)
        samples, gain_db = int(np.median(waveforms.lengths)), self.config.gain_db
        batches = WaveformBatches(waveforms, sampler, samples=samples, gain_db=gain_db)
        fit_model(model, batches, steps, "fine_tune_learning_rate")

    def _predict_clip(self, tagger: keras.Model, kind: Kind, row: int) -> np.ndarray:
        if self._num_windows[row] == 1:
            return predict_windows(tagger, self._read_windows(row))
        bag = self._embed(kind, row)
        return np.asarray(self._heads[kind].model.predict_on_batch(bag[None])["clipwise"][0], np.float32)

    def _embed(self, kind: Kind, row: int) -> np.ndarray:
        embedder = self.backbone.embedders[kind]
        windows = [embedder.predict_on_batch(window[None])[0] for window in self._read_windows(row)]
        return make_bag([np.asarray(window, np.float32) for window in windows])

    def _select_window(self, tagger: keras.Model, row: int) -> np.ndarray:
        windows = self._read_windows(row)
        if self._num_windows[row] == 1:
            return next(iter(windows))
        return max(windows, key=lambda window: predict_windows(tagger, [window])[self.clips.targets[row]].mean())

    def _read_windows(self, row: int) -> Iterable[np.ndarray]:
        """Read the windows of a clip; clips of one window stay in memory."""
        if row in self._waveforms:
            return [self._waveforms[row]]
        sample_rate = self.backbone.card.sample_rate
        windows = read_windows(self.clips.audio[row], sample_rate, self.config.max_seconds, self.config.channel)
        if self._num_windows[row] > 1:
            return windows
        self._waveforms[row] = next(windows)
        return [self._waveforms[row]]


def _add_copies(embeddings: Embeddings, clips: Clips) -> dict[Kind, Bags]:
    """Make bags of all clips, and of their quiet copies after them."""
    assert embeddings.quiet_bags is not None
    targets, is_known = (np.concatenate([each, each]) for each in (clips.targets, clips.is_known))
    copies = embeddings.quiet_bags
    return {kind: Bags.pad([*bags, *copies[kind]], targets, is_known) for kind, bags in embeddings.bags.items()}


def predict_windows(tagger: keras.Model, windows: Iterable[np.ndarray]) -> np.ndarray:
    """Predict the highest probability of each class in the windows of a clip, float32 `(classes,)`."""
    predictions = [tagger.predict_on_batch(window[None])["clipwise"][0] for window in windows]
    return np.max(predictions, axis=0).astype(np.float32)


def build_tagger(embedder: keras.Model, head: keras.Model) -> keras.Model:
    """Build a model of waveforms that predicts `clipwise`, `framewise` and `embedding`, the mean of the embeddings."""
    waveform = keras.Input((None,), name="waveform")
    embeddings = embedder(waveform)
    outputs = {**head(embeddings), "embedding": keras.ops.mean(embeddings, axis=1)}
    named_outputs = {
        name: keras.layers.Activation("linear", dtype="float32", name=name)(output) for name, output in outputs.items()
    }
    return keras.Model(waveform, named_outputs, name="custom")
