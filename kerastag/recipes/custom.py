"""Your own sounds: a folder of labelled recordings -> a tagger of them, on top of a pretrained network.

A pretrained backbone embeds every recording; feature-level attention, `h_j = sum over segments of q(x)_j u(x)_j` (Kong
et al., 2019, eq. 20 to 24), learns the classes from the bags of embeddings. Cross-validation measures it, beside a
logistic regression on whole-clip embeddings; a last training on all clips gives `model.keras`, from waveform to tags.
"""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerastag import fetch
from kerastag.data.audio_lists import AudioList, Recording, audio_files, read_audio_list
from kerastag.labels import LabelSet
from kerastag.metrics import measure
from kerastag.recipes import _custom_report as reports
from kerastag.recipes._command import command
from kerastag.recipes._run import open_run, versions
from kerastag.training.files import write_atomically, write_json

if TYPE_CHECKING:
    from kerastag.recipes._custom_embed import Backbone, Embedded
    from kerastag.recipes._custom_head import Head

BACKGROUND = "background"
_ESC = re.compile(r"^(\d+)-\d+-[A-Z]")


@dataclass(kw_only=True)
class Settings:
    """Settings of a tagger of one's own sounds.

    Args:
        audio_dir: folder with one folder a class, or where the paths of `labels` begin.
        labels: CSV with the columns `path,labels` and perhaps `fold`.
        model: `.keras` file with its card, or the name of published weights.
        folds: of the cross-validation, at least 3; 0 for none, and thresholds from the clips that were trained on.
        fold_pattern: regular expression on file names whose first group says the fold. Without it and without a
            column `fold`: the first number of names like ESC's (`1-100032-A.ogg`), or else folds that share out every
            class, with files of one stem before the last `-` or `_` kept together.
        seeds: of the trainings; figures are given for each.
        segments: what a bag is made of: output frames of one pass, seconds, or whichever is better on held-out
            training clips.
        background: a class for everything else: `made_up` silence and faint noise, a folder of recordings, or `none`.
        max_seconds: how much of a longer recording is heard.
        fine_tune: then train the backbone too, end to end.
        run_dir: folder of the run; without one `runs/custom`.
        units: width of the head.
        depth: hidden layers before attention.
        dropout: share of units dropped.
        steps: mini-batches to train the head on.
        batch_size: clips a mini-batch.
        learning_rate: of the head, at its highest.
        mixup: alpha of mixup of embeddings; 0 for none.
        fine_tune_steps: mini-batches of the end-to-end training.
        fine_tune_batch_size: clips of each.
        fine_tune_learning_rate: at its highest.
    """

    audio_dir: str
    labels: str | None = None
    model: str = "mn04_as"
    folds: int = 5
    fold_pattern: str | None = None
    seeds: tuple[int, ...] = (0,)
    segments: Literal["best", "frames", "seconds"] = "best"
    background: str = "made_up"
    max_seconds: float = 30.0
    fine_tune: bool = False
    run_dir: str | None = None
    units: int = 256
    depth: int = 0
    dropout: float = 0.5
    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    mixup: float = 0.0
    fine_tune_steps: int = 100
    fine_tune_batch_size: int = 16
    fine_tune_learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("units", "steps", "batch_size", "fine_tune_steps", "fine_tune_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, received {getattr(self, name)}")
        for name in ("learning_rate", "fine_tune_learning_rate", "max_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be above 0, received {getattr(self, name)}")
        if self.folds in (1, 2) or self.folds < 0:
            raise ValueError(f"`folds` must be 0 or at least 3, received {self.folds}")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"`seeds` must be at least one number, none negative, received {self.seeds}")

    @property
    def seed(self) -> int:
        return self.seeds[0]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a run's `settings.json`."""
        return {**asdict(self), "seeds": list(self.seeds)}


def main(argv: Sequence[str] | None = None) -> int:
    return command(Settings, run, "custom", argv)


def run(settings: Settings) -> None:
    """Settings -> a run folder with `model.keras`, its table, class report and confusion."""
    from kerastag.recipes._custom_embed import embed, load_backbone
    from kerastag.training.devices import deterministic

    deterministic()
    clips = read_audio_list(settings.audio_dir, settings.labels)
    if clips.missing:
        print(f"missing: {len(clips.missing)} recordings: {', '.join(clips.missing)}", file=sys.stderr)
    folds = folds_of(clips, settings)
    folder = open_run(settings, "custom")
    started = time.perf_counter()
    backbone = load_backbone(settings.model)
    background = background_clips(settings, backbone.card.sample_rate)
    cache = fetch.cache_folder() / "embeddings"
    embedded = embed(backbone, clips, background, settings.max_seconds, cache)
    embedding_seconds = time.perf_counter() - started
    study = _Study(settings, clips, folds, backbone, embedded, len(background))
    found = study.cross_validate()
    thresholds = study.save(folder, found)
    found |= {"embedding_seconds": embedding_seconds, "seconds": time.perf_counter() - started}
    _report(folder, study, found, thresholds)


def folds_of(clips: AudioList, settings: Settings) -> np.ndarray:
    """Recordings -> the fold of each, int `(clips,)`, from 0.

    Raises:
        ValueError: the pattern does not match a name or has no group, a CSV names some folds and not others, there
            are fewer than three folds, or a class is in one fold alone.
    """
    if not settings.folds:
        return np.zeros(len(clips), int)
    names = [Path(recording.name).name for recording in clips.recordings]
    given = [recording.fold for recording in clips.recordings]
    if any(given):
        if not all(given):
            raise ValueError(f"{clips.source}: column fold is empty for {names[given.index('')]}")
    elif settings.fold_pattern or all(_ESC.match(name) for name in names):
        given = [_fold_of(name, re.compile(settings.fold_pattern or _ESC)) for name in names]
    if any(given):
        folds = np.unique(given, return_inverse=True)[1]
        if folds.max() < 2:
            raise ValueError(f"{clips.source}: must have at least 3 folds, has {folds.max() + 1}")
    else:
        folds = _deal(clips.recordings, settings.folds, settings.seed)
    for k, name in enumerate(clips.labels.names):
        if len(np.unique(folds[clips.targets[:, k]])) < 2:
            raise ValueError(f"{clips.source}: class {name!r} must be in at least two folds: give it more recordings")
    return folds


def _fold_of(name: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(name)
    if match is None or not match.groups() or not match[1]:
        raise ValueError(f"`fold_pattern` {pattern.pattern!r} must have a group that matches every file name: {name!r}")
    return match[1]


def _deal(recordings: Sequence[Recording], folds: int, seed: int) -> np.ndarray:
    """Recordings of one source together, sources dealt class by class to the fold that has least of the class."""
    sources: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for row, recording in enumerate(recordings):
        sources.setdefault((re.sub(r"[-_][^-_]*$", "", Path(recording.name).stem), recording.labels), []).append(row)
    if len({stem for stem, _ in sources}) < folds * 2:  # names like clip_001: the stem is no source
        sources = {(str(row), recording.labels): [row] for row, recording in enumerate(recordings)}
    random = np.random.default_rng(seed)
    order = sorted(sources, key=lambda source: (source[1], random.random()))
    dealt, counts = np.zeros(len(recordings), int), np.zeros((folds, max(max(r.labels) for r in recordings) + 1))
    for source in order:
        labels = list(source[1])
        fold = int(np.argmin(counts[:, labels].sum(axis=1) + 1e-3 * counts.sum(axis=1)))
        dealt[sources[source]] = fold
        counts[fold, labels] += len(sources[source])
    return dealt


def background_clips(settings: Settings, sample_rate: int) -> list[np.ndarray]:
    """What is none of the classes: nothing, made up, or the recordings of a folder."""
    if settings.background == "none":
        return []
    if settings.background != "made_up":
        from kerastag.recipes._custom_embed import waveform_of

        folder = Path(settings.background)
        paths = audio_files(folder)
        if not paths:
            raise ValueError(f"`background` must be made_up, none or a folder of recordings, received {folder}")
        return [waveform_of(folder / path, sample_rate, settings.max_seconds) for path in paths]
    random = np.random.default_rng(0)
    made = [np.zeros(5 * sample_rate, np.float32)]
    for tilt in (0.0, 0.5, 1.0):  # white, pink, brown
        for level in (1e-4, 3e-4, 1e-3):
            spectrum = np.fft.rfft(random.standard_normal(5 * sample_rate))
            spectrum /= np.maximum(1, np.arange(len(spectrum))) ** tilt
            noise = np.fft.irfft(spectrum)
            made.append((level * noise / noise.std()).astype(np.float32))
    return made


class _Study:
    """The clips of a run in the backbone's terms, and what is trained on them."""

    def __init__(
        self,
        settings: Settings,
        clips: AudioList,
        folds: np.ndarray,
        backbone: "Backbone",
        embedded: "Embedded",
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
        return measure(self.targets[rows], probabilities).map

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

    def head(self, kind: str) -> "Head":
        from kerastag.recipes._custom_head import Head, HeadSettings

        if kind not in self.heads:
            s = self.settings
            settings = HeadSettings(s.units, s.depth, s.dropout, s.steps, s.batch_size, s.learning_rate, s.mixup)
            self.heads[kind] = Head(len(self.names), self.embedded.bags[kind][0].shape[1], settings)
        return self.heads[kind]

    def tuned(self, kind: str, train: np.ndarray, seed: int) -> tuple[Any, list[np.ndarray]]:
        """The trained head and the backbone, trained on end to end, and the weights that the backbone had before."""
        from kerastag.recipes._custom_head import fine_tune, tagger

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
            from kerastag.recipes._custom_embed import waveform_of

            rate, silence = self.backbone.card.sample_rate, np.zeros(self.backbone.card.sample_rate, np.float32)
            heard = [
                waveform_of(recording.path, rate, self.settings.max_seconds) if usable else silence
                for recording, usable in zip(self.clips.recordings, self.usable, strict=False)
            ]
            self._waveforms = heard + background_clips(self.settings, rate)
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
        """Train on all clips and write `model.keras` -> the thresholds that its card suggests."""
        from kerastag.card import Card
        from kerastag.recipes._custom_head import save_tagger, tagger

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
        probabilities, repeats = found["probabilities"], len(found["probabilities"])
        thresholds = reports.suggest_thresholds(
            np.tile(self.targets[self.evaluated], (repeats, 1)), probabilities.reshape(-1, len(self.names))
        )
        origin = self.backbone.card
        card = Card(
            labels=LabelSet.from_names(self.names),
            sample_rate=origin.sample_rate,
            window_seconds=origin.window_seconds,
            seconds_per_frame=self.backbone.seconds[kind],
            front_end=origin.front_end,
            thresholds=thresholds,
            thresholds_origin="best F1 on held-out clips" if self.settings.folds else "best F1 on the training clips",
            origin=f"{len(train)} clips of {self.clips.source} on {origin.origin or self.settings.model}",
            versions=versions(),
        )
        save_tagger(model, folder / "model.keras", card)
        return thresholds


def _report(folder: Path, study: _Study, found: dict[str, Any], thresholds: tuple[float, ...]) -> None:
    """What was found -> the files of the run's folder, and the table on standard output."""
    all_seeds = found.pop("probabilities")
    targets = np.tile(study.targets[study.evaluated], (len(all_seeds), 1))
    probabilities = all_seeds.reshape(-1, all_seeds.shape[-1])
    known = np.flatnonzero(targets.any(axis=0))
    figures = measure(targets[:, known], probabilities[:, known])
    counts = reports.confusion(targets, probabilities)
    classes = reports.class_table(
        targets[:, known],
        probabilities[:, known],
        [thresholds[k] for k in known],
        [study.names[k] for k in known],
        figures,
    )
    lines = [*_table(study, found), "", *reports.look_alikes(counts, study.names)]
    rows = [["", *study.names], *([name, *row] for name, row in zip(study.names, counts.tolist(), strict=True))]
    confused = "".join(",".join(map(str, row)) + "\n" for row in rows)
    table = "\n".join(lines) + "\n"
    for name, text in (("classes.csv", classes), ("confusion.csv", confused), ("table.md", table)):
        write_atomically(folder / name, partial(Path.write_text, data=text))
    summary = {**found, "figures": figures.as_dict(), "classes": list(study.names), "thresholds": list(thresholds)}
    summary |= {"errors": list(study.embedded.errors), "missing": list(study.clips.missing)}
    write_json(folder / "metrics.json", summary)
    print("\n".join([*lines, "", classes, f"run folder: {folder}", figures.line()]))


def _table(study: _Study, found: dict[str, Any]) -> list[str]:
    what = "accuracy" if study.single else "mAP"
    numbers = range(1, len(found["kinds"]) + 1)
    lines = [
        f"{len(study.evaluated)} clips, {len(study.clips.labels)} classes; "
        f"embedding {found['embedding_seconds']:.0f} s, all {found['seconds']:.0f} s",
        "",
    ]
    if not found["folds"]:
        return [*lines, "no cross-validation: what follows is measured on the clips that were trained on"]
    lines.append(f"| {what} | {' | '.join(f'fold {n}' for n in numbers)} | mean |")
    lines.append("| --- " * (len(numbers) + 2) + "|")
    name = "attention head, backbone fine-tuned" if study.settings.fine_tune else "attention head, backbone frozen"
    for seed, scores in zip(study.settings.seeds, found["folds"], strict=True):
        lines.append(_row(f"{name}, seed {seed}", scores))
    lines.append(_row(f"{name}, mean of {len(found['folds'])}", np.mean(found["folds"], axis=0)))
    if found["logistic"]:
        lines.append(_row("logistic regression on whole-clip embeddings", found["logistic"]))
    lines.append(f"| segments of a bag | {' | '.join(found['kinds'])} | |")
    return lines


def _row(name: str, scores: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{score:.4f}' for score in scores)} | {np.mean(scores):.4f} |"


if __name__ == "__main__":
    sys.exit(main())
