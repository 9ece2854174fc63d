"""A recipe without data: the synthetic set, ES average beside it, and a plot of where the model listens."""

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.data.batches import scale
from kerastag.data.synthetic import synthetic_features, synthetic_labels, write_synthetic_packs
from kerastag.files import write_atomically
from kerastag.metrics import Metrics
from kerastag.models import MODELS
from kerastag.recipes._data import Data
from kerastag.recipes._run import NetworkSettings, open_run, run_network

NUM_EVAL = 2000


def synthetic_packs(folder: Path, seed: int) -> Path:
    """A run's folder and its seed -> the folder of its synthetic packs, written when they are not there."""
    data_dir = folder / "synthetic"
    if not (data_dir / "eval.h5").exists():
        write_synthetic_packs(data_dir, num_eval=NUM_EVAL, seed=seed)
    return data_dir


def run_synthetic(settings: NetworkSettings, build: Callable[..., Any], recipe: str) -> None:
    """A recipe on the synthetic set, and ES average beside it with the same settings -> a table of both."""
    folder = open_run(settings, recipe)
    data_dir = synthetic_packs(folder, settings.seed)
    found: dict[str, Metrics] = {}
    if recipe != "es_average":
        shared = {f.name: getattr(settings, f.name) for f in fields(NetworkSettings)}
        beside = NetworkSettings(**{**shared, "run_dir": str(folder / "beside_es_average")})
        print("ES average, beside:", file=sys.stderr)
        found["es_average"] = run_network(beside, _es_average, "es_average", data_dir, quiet=True)
        print(f"{recipe}:", file=sys.stderr)
    found[recipe] = run_network(settings, build, recipe, data_dir, quiet=True)
    plot = _plot_clip(folder, settings.seed)
    print(f"\nSynthetic set: 40 classes, short events in a loud background, {NUM_EVAL:,} clips to tag\n")
    print("| system | mAP | mAUC | d-prime |\n| --- | --- | --- | --- |")
    for name, figures in found.items():
        print(f"| {name} | {figures.map:.4f} | {figures.mauc:.4f} | {figures.d_prime:.3f} |")
    print(f"\nattention over time against the truth: {plot}\nrun folder: {folder}")
    print(found[recipe].line())


def _es_average(settings: NetworkSettings, data: Data) -> Any:
    return MODELS["es_average"].build(**settings.network(data))


def _plot_clip(folder: Path, seed: int) -> Path:
    """The clip whose short events the model hears best -> `attention.png`: probabilities over time and the truth."""
    import keras
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    clips = synthetic_features(NUM_EVAL, seed=seed, split="eval")
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    outputs = model.predict_on_batch(scale(clips.x, clips.num_segments))
    clip, classes = _most_telling(clips, np.asarray(outputs["clipwise"]))
    names = synthetic_labels(clips.targets.shape[1])
    figure = Figure(figsize=(8, 1.2 + 1.5 * len(classes)), layout="constrained")
    axes = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    seconds = np.arange(clips.num_segments[clip] + 1)
    for axis, k in zip(axes, classes, strict=True):
        truth = clips.events[clip, : len(seconds) - 1, k]
        axis.fill_between(seconds, np.append(truth, truth[-1]), step="post", color="0.85", label="event (truth)")
        heard = np.asarray(outputs["framewise"])[clip, : len(seconds) - 1, k]
        axis.stairs(heard, seconds, color="tab:red", linewidth=2, label="model, segment alone")
        axis.set(ylim=(0, 1.05), ylabel="probability", title=f"{names[k]}, clip {outputs['clipwise'][clip][k]:.2f}")
    axes[0].legend(loc="upper right")
    axes[-1].set(xlabel="time (s)", xlim=(0, seconds[-1]))
    return write_atomically(folder / "attention.png", lambda path: figure.savefig(path, dpi=120))


def _most_telling(clips: Any, clipwise: np.ndarray) -> tuple[int, np.ndarray]:
    """A full clip with two or three short events, recognized best, and their classes."""
    lengths = clips.events.sum(axis=1)
    number = (lengths > 0).sum(axis=1)
    short = ((lengths > 0) & (lengths <= 3)).sum(axis=1)
    fits = (number == short) & (number >= 2) & (number <= 3) & (clips.num_segments == clips.x.shape[1])
    if not fits.any():
        fits = number > 0
    sure = np.where(lengths > 0, clipwise, 1).min(axis=1)
    clip = int(np.argmax(np.where(fits, sure, -1)))
    return clip, np.flatnonzero(lengths[clip])
