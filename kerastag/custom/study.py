"""One's own clips in a backbone's terms -> heads trained on them, cross-validated, and a tagger of all clips."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.card import Card
from kerastag.custom.background import background_clips
from kerastag.custom.embed import Backbone, Embedded, waveform_of
from kerastag.custom.head import Head, HeadSettings, fine_tune, save_parts, save_tagger, tagger
from kerastag.custom.report import suggest_thresholds
from kerastag.data.audio_lists import AudioList
from kerastag.labels import LabelSet
from kerastag.metrics import compute_metrics
from kerastag.recipes._run import versions

BACKGROUND = "background"


class Study:
    """The clips of a run in the backbone's terms, and what is trained on them."""

    def __init__(
        self,
        settings: Any,
        clips: AudioList,
        folds: np.ndarray,
        backbone: Backbone,
        embedded: Embedded,
        num_background: int,
    ) -> None:
        self.settings, self.clips, self.backbone, self.embedded = settings, clips, backbone, embedded
        names = clips.labels.names
        self.names = (*names, BACKGROUND) if num_background and BACKGROUND not in names else names
        targets = np.zeros((len(clips) + num_background, len(self.names)), bool)
        targets[: len(clips), : len(names)] = clips.targets
        targets[len(clips) :, self.names.index(BACKGROUND) if num_background else 0] = True
        self.targets = targets
        self.folds = np.concatenate([folds, np.full(num_background, -1)])  # background is always trained on
        self.usable = embedded.readable
        self.single = bool((clips.targets.sum(axis=1) == 1).all())
        self.heads: dict[str, Head] = {}

    @property
    def evaluated(self) -> np.ndarray:
        """Rows that can be measured."""
        return np.flatnonzero(self.usable & (self.folds >= 0))

    def cross_validate(self) -> dict[str, Any]:
        """Every fold held out once, for every seed -> probabilities of all clips, and accuracies."""
        rows = self.evaluated
        if not self.settings.folds:
            kind = "frames" if self.settings.segments == "best" else self.settings.segments
            return {"kinds": [kind], "folds": [], "logistic": [], "probabilities": None}
        folds = sorted(set(self.folds[rows].tolist()))
        kinds = {fold: self.choose_kind(fold, folds) for fold in folds}
        by_seed = []
        for seed in self.settings.seeds:
            probabilities = np.zeros(self.targets.shape, np.float32)
            for fold in folds:
                test = rows[self.folds[rows] == fold]
                train = np.flatnonzero(self.usable & (self.folds != fold))
                probabilities[test] = self.fit_predict(kinds[fold], train, test, seed)
                print(f"seed {seed}, fold {fold + 1}: {self.score(test, probabilities[test]):.4f}", file=sys.stderr)
            by_seed.append(probabilities[rows])
        return {
            "kinds": [kinds[fold] for fold in folds],
            "folds": [
                [self.score(rows[f], p[f]) for fold in folds for f in [self.folds[rows] == fold]] for p in by_seed
            ],
            "logistic": self.logistic(folds),
            "probabilities": np.stack(by_seed),
        }

    def choose_kind(self, fold: int, folds: Sequence[int]) -> str:
        """What bags are made of, on the next fold, held out of the training clips."""
        if self.settings.segments != "best":
            return self.settings.segments
        inner = folds[(folds.index(fold) + 1) % len(folds)]
        held = np.flatnonzero(self.usable & (self.folds == inner))
        train = np.flatnonzero(self.usable & ~np.isin(self.folds, (fold, inner)))
        scores = {}
        for kind in ("frames", "seconds"):
            probabilities = self.fit_predict(kind, train, held, self.settings.seed, fine_tune=False)
            right = np.where(self.targets[held], probabilities, 1 - probabilities)
            scores[kind] = self.score(held, probabilities), float(np.log(np.maximum(right, 1e-7)).mean())
        return max(scores, key=lambda kind: scores[kind])

    def score(self, rows: np.ndarray, probabilities: np.ndarray) -> float:
        """Accuracy where every clip has one label, mAP elsewhere."""
        if self.single:
            return float(self.targets[rows, probabilities.argmax(axis=1)].mean())
        return compute_metrics(self.targets[rows], probabilities).map

    def fit_predict(
        self, kind: str, train: np.ndarray, test: np.ndarray, seed: int, fine_tune: bool | None = None
    ) -> np.ndarray:
        bags = self.embedded.padded(kind)
        head = self.head(kind)
        head.train(bags[train], self.targets[train], seed)
        if not (self.settings.fine_tune if fine_tune is None else fine_tune):
            return head.predict(bags[test])
        model, pretrained = self.tuned(kind, train, seed)
        found = [model.predict_on_batch(self.waveforms()[row][None])["clipwise"][0] for row in test]
        self.backbone.embed[kind].set_weights(pretrained)
        return np.stack(found)

    def head(self, kind: str) -> Head:
        if kind not in self.heads:
            s = self.settings
            settings = HeadSettings(s.units, s.depth, s.dropout, s.steps, s.batch_size, s.learning_rate, s.mixup)
            self.heads[kind] = Head(len(self.names), self.embedded.bags[kind][0].shape[1], settings)
        return self.heads[kind]

    def tuned(self, kind: str, train: np.ndarray, seed: int) -> tuple[Any, list[np.ndarray]]:
        """The trained head and the backbone, trained on end to end, and the weights that the backbone had before."""
        pretrained = self.backbone.embed[kind].get_weights()
        model = tagger(self.backbone.embed[kind], self.head(kind).model)
        s = self.settings
        fine_tune(
            model,
            [self.waveforms()[row] for row in train],
            self.targets[train],
            steps=s.fine_tune_steps,
            batch_size=s.fine_tune_batch_size,
            learning_rate=s.fine_tune_learning_rate,
            seed=seed,
        )
        return model, pretrained

    def waveforms(self) -> list[np.ndarray]:
        """Every clip's waveform, in memory: what end-to-end training needs."""
        if not hasattr(self, "_waveforms"):
            rate, silence = self.backbone.card.sample_rate, np.zeros(self.backbone.card.sample_rate, np.float32)
            heard = [
                waveform_of(recording.path, rate, self.settings.max_seconds) if usable else silence
                for recording, usable in zip(self.clips.recordings, self.usable, strict=False)
            ]
            self._waveforms = heard + background_clips(self.settings.background, rate, self.settings.max_seconds)
        return self._waveforms

    def logistic(self, folds: Sequence[int]) -> list[float]:
        """Plain logistic regression on whole-clip embeddings, fold by fold; the same clips, without background."""
        if not self.single:
            return []
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows, x, y = self.evaluated, self.embedded.clip, self.targets.argmax(axis=1)
        scores = []
        for fold in folds:
            train, test = rows[self.folds[rows] != fold], rows[self.folds[rows] == fold]
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[train], y[train])
            scores.append(float(model.score(x[test], y[test])))
        return scores

    def save(self, folder: Path, found: dict[str, Any]) -> tuple[float, ...]:
        """Train on all clips and write `model.keras` -> the thresholds that its card suggests.

        Where bags are of seconds, its two parts are written too, `embedder.keras` and `head.keras`: a device can run
        them one after the other, each second once.
        """
        kind = max(set(found["kinds"]), key=found["kinds"].count)
        train = np.flatnonzero(self.usable)
        bags = self.embedded.padded(kind)
        self.head(kind).train(bags[train], self.targets[train], self.settings.seed)
        if self.settings.fine_tune:
            model, _ = self.tuned(kind, train, self.settings.seed)
        else:
            model = tagger(self.backbone.embed[kind], self.head(kind).model)
        if found["probabilities"] is None:
            found["probabilities"] = self.head(kind).predict(bags[self.evaluated])[None]
        card = self.card(kind, len(train), found["probabilities"])
        save_tagger(model, folder / "model.keras", card)
        if kind == "seconds":
            save_parts(self.backbone, self.head(kind).model, folder, card)
        return card.thresholds or ()

    def card(self, kind: str, num_clips: int, probabilities: np.ndarray) -> Card:
        """What `model.keras` is; its thresholds are those of the best F1 of `probabilities` (seeds, clips, classes)."""
        thresholds = suggest_thresholds(
            np.tile(self.targets[self.evaluated], (len(probabilities), 1)), probabilities.reshape(-1, len(self.names))
        )
        origin = self.backbone.card
        return Card(
            labels=LabelSet.from_names(self.names),
            sample_rate=origin.sample_rate,
            window_seconds=origin.window_seconds,
            seconds_per_frame=self.backbone.seconds[kind],
            front_end=origin.front_end,
            thresholds=thresholds,
            thresholds_origin="best F1 on held-out clips" if self.settings.folds else "best F1 on the training clips",
            origin=f"{num_clips} clips of {self.clips.source} on {origin.origin or self.settings.model}",
            versions=versions(),
        )
