"""What a recipe runs on without data: synthetic embeddings or soundscapes, with a baseline and a table of both."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.markdown import format_table
from kerastag.metrics.classification import Metrics
from kerastag.training.report import METRIC_NAMES, format_localization, format_metrics_row
from kerastag.training.run_folder import BASELINE, RunFolder

__all__ = ["run_on_synthetic_embeddings", "run_on_synthetic_events", "run_on_synthetic_sounds", "run_without_baseline"]

NUM_EVAL = 2000
NUM_SOUNDSCAPES = {"bal_train": 400, "eval": 150}


def run_on_synthetic_embeddings(recipe: Any, config: Any, folder: RunFolder, baseline: Any = None) -> None:
    """Run a recipe and a baseline on the synthetic embeddings, and plot probabilities over time.

    Args:
        recipe: The recipe.
        config: Its configuration.
        folder: Its run folder.
        baseline: Recipe to compare with, trained with the same configuration; None for none.
    """
    data_dir = write_synthetic_embeddings(folder, config.seed)
    metrics: dict[str, Any] = {}
    if baseline is not None and baseline.name != recipe.name:
        print(f"baseline, {baseline.name}:", file=sys.stderr)
        shared = replace_config(config, baseline.config, run_dir=str(folder.subfolder(BASELINE)))
        metrics[baseline.name] = baseline.run(shared, data_dir)["ensemble"]
        print(f"{recipe.name}:", file=sys.stderr)
    metrics[recipe.name] = recipe.run(config, data_dir)["ensemble"]
    plot = plot_clip(folder, config.seed)
    rows = [format_metrics_row(name, values) for name, values in metrics.items()]
    print(f"\nSynthetic dataset: 40 classes, short events in a loud background, {NUM_EVAL:,} clips to tag\n")
    print(format_table(("system", *METRIC_NAMES), rows))
    print(f"\nprobabilities over time against the ground truth: {plot}\nrun folder: {folder.path}")
    print(Metrics.from_dict(metrics[recipe.name]).format_line())


def run_without_baseline(recipe: Any, config: Any, folder: RunFolder) -> None:
    """Run a recipe on the synthetic embeddings."""
    recipe.print_results(recipe.run(config, write_synthetic_embeddings(folder, config.seed)), folder)


def run_on_synthetic_sounds(recipe: Any, config: Any, folder: RunFolder, *, sample_rate: int) -> None:
    """Run a recipe on synthetic soundscapes of two seconds, at the sample rate of its front end."""
    from kerastag.data.soundscape_mixer import SoundscapeConfig

    rules = SoundscapeConfig(soundscape_seconds=2.0, max_event_seconds=1.0, max_events=2)
    data_dir = write_synthetic_sounds(folder, config.seed, sample_rate, rules)
    recipe.print_results(recipe.run(config, data_dir), folder)


def run_on_synthetic_events(recipe: Any, config: Any, folder: RunFolder, *, sample_rate: int) -> None:
    """Run GL-AT and the backbone alone on synthetic soundscapes of ten seconds, and compare their streams."""
    from kerastag.data.soundscape_mixer import SoundscapeConfig

    rules = SoundscapeConfig(max_events=3, snr_db=(10.0, 25.0))
    data_dir = write_synthetic_sounds(folder, config.seed, sample_rate, rules, NUM_SOUNDSCAPES)
    if config.streams != "both":
        recipe.print_results(recipe.run(config, data_dir), folder)
        return
    print(f"{config.backbone} alone:", file=sys.stderr)
    run_dir = str(folder.subfolder(BASELINE))
    alone = recipe.run(
        replace_config(config, type(config), streams="global", freeze_global=False, run_dir=run_dir), data_dir
    )
    print(f"{config.backbone} with GL-AT:", file=sys.stderr)
    metrics = recipe.run(config, data_dir)
    rows = {
        f"{config.backbone} alone": alone["ensemble"],
        f"{config.backbone} + GL-AT, global": metrics["global"],
        f"{config.backbone} + GL-AT, local": metrics["local"],
        f"{config.backbone} + GL-AT, both": metrics["ensemble"],
    }
    count = NUM_SOUNDSCAPES["eval"]
    print(f"\nSynthetic soundscapes: five classes, one to three events in ten seconds, {count} clips to tag\n")
    table = format_table(("streams", *METRIC_NAMES), [format_metrics_row(name, m) for name, m in rows.items()])
    print(table + format_localization(metrics))
    print(f"run folder: {folder.path}")
    print(Metrics.from_dict(metrics["ensemble"]).format_line())


def write_synthetic_embeddings(folder: RunFolder, seed: int) -> Path:
    """Write the synthetic packs of embeddings of a run, unless they exist, and return their folder."""
    from kerastag.data.synthetic_features import write_synthetic_packs

    data_dir = folder.synthetic_data_dir
    if not (data_dir / "eval.h5").exists():
        write_synthetic_packs(data_dir, num_eval=NUM_EVAL, seed=seed)
    return data_dir


def write_synthetic_sounds(folder: RunFolder, seed: int, sample_rate: int, rules: Any, counts: Any = None) -> Path:
    """Write the synthetic soundscapes of a run, unless they exist, and return their folder."""
    from kerastag.data.soundscapes import write_synthetic_soundscapes

    data_dir = folder.synthetic_data_dir
    if not (data_dir / "eval.tsv").exists():
        print("writing the synthetic soundscapes", file=sys.stderr)
        counts = {} if counts is None else {"counts": counts}
        write_synthetic_soundscapes(data_dir, sample_rate=sample_rate, config=rules, seed=seed, **counts)
    return data_dir


def plot_clip(folder: RunFolder, seed: int) -> Path:
    """Plot the probabilities of a clip over time against the ground truth, as `attention.png`."""
    from matplotlib.figure import Figure

    from kerastag.data.batches import scale
    from kerastag.data.synthetic_features import make_synthetic_class_names, make_synthetic_features
    from kerastag.files import write_atomically
    from kerastag.models.loading import load_model

    clips = make_synthetic_features(NUM_EVAL, seed=seed, split="eval")
    model = load_model(folder.model_path)
    outputs = model.predict_on_batch(scale(clips.x, clips.num_segments))
    clip, classes = _select_clip(clips, np.asarray(outputs["clipwise"]))
    names = make_synthetic_class_names(clips.targets.shape[1])
    figure = Figure(figsize=(8, 1.2 + 1.5 * len(classes)), layout="constrained")
    axes = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    seconds = np.arange(clips.num_segments[clip] + 1)
    for axis, k in zip(axes, classes, strict=True):
        events = clips.events[clip, : len(seconds) - 1, k]
        axis.fill_between(seconds, np.append(events, events[-1]), step="post", color="0.85", label="ground truth")
        probabilities = np.asarray(outputs["framewise"])[clip, : len(seconds) - 1, k]
        axis.stairs(probabilities, seconds, color="tab:red", linewidth=2, label="model, each segment alone")
        axis.set(ylim=(0, 1.05), ylabel="probability", title=f"{names[k]}, clip {outputs['clipwise'][clip][k]:.2f}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    axes[-1].set(xlabel="time (s)", xlim=(0, seconds[-1]))
    return write_atomically(folder.path / "attention.png", lambda path: figure.savefig(path, dpi=120))


def _select_clip(clips: Any, clipwise: np.ndarray) -> tuple[int, np.ndarray]:
    """Select the full clip with two or three short events that is predicted best, and return its classes too."""
    lengths = clips.events.sum(axis=1)
    num_events = (lengths > 0).sum(axis=1)
    num_short = ((lengths > 0) & (lengths <= 3)).sum(axis=1)
    is_full = clips.num_segments == clips.x.shape[1]
    is_eligible = (num_events == num_short) & (num_events >= 2) & (num_events <= 3) & is_full
    if not is_eligible.any():
        is_eligible = num_events > 0
    confidence = np.where(lengths > 0, clipwise, 1).min(axis=1)
    clip = int(np.argmax(np.where(is_eligible, confidence, -1)))
    return clip, np.flatnonzero(lengths[clip])


def replace_config(config: Any, kind: type, **values: Any) -> Any:
    """Return a configuration of another class with the fields that both have, and some changed."""
    shared = {field.name: getattr(config, field.name) for field in fields(kind)}
    return kind(**{**shared, **values})
