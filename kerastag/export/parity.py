"""Comparison of an exported file with Keras, which decides whether the file is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastag._keras import flatten_layers
from kerastag.export.device import measure_usage
from kerastag.export.inputs import PackInputs, make_probes
from kerastag.export.preparation import PreparedModel
from kerastag.export.report import ROUNDINGS, ExportReport, ParityError
from kerastag.export.source import rebuild_network
from kerastag.export.target import Target
from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect
from kerastag.metrics import compute_metrics

__all__ = ["FixedSubClipModel", "Run", "check_parity", "compute_map", "predict_reference"]

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Function from a batch of inputs to outputs by name."""
_ByOutputAndProbe = dict[str, dict[str, float]]
_NUM_THREADS = (1, 2)
_MIN_TOLERANCE_FOR_SUB_CLIPS = 0.01  # of `framewise`; from here on, a file may select other sub-clips than Keras
_NUM_PLACES = 8  # sub-clips that are computed at a time


def check_parity(
    path: Path,
    name: str,
    target: Target,
    run: Run,
    prepared: PreparedModel,
    clips: PackInputs | None = None,
    measures_usage: bool = True,
) -> ExportReport:
    """Compare an exported file with Keras, by the function that runs it, and measure its size, time and memory.

    Without `measures_usage`, time and memory are not measured, which takes two processes of a few seconds.

    Raises:
        ParityError: The file exceeds a tolerance; the message states the difference.
    """
    from_waveform, card = prepared.input_name == "waveform", prepared.card
    tolerances = {output: target.tolerance.get_limit(output, from_waveform) for output in prepared.reference.output}
    differences, sub_clip_differences, roundings = _compare(run, prepared, tolerances)
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    report = ExportReport(
        name=name,
        target=target.name,
        size_bytes=sum(file.stat().st_size for file in files),
        differences=differences,
        tolerances=tolerances,
        roundings=roundings,
        sub_clip_differences=sub_clip_differences,
        map_keras=None if clips is None else compute_map(lambda batch: predict_reference(prepared, batch), clips),
        map_file=None if clips is None else compute_map(run, clips),
        map_loss_allowed=target.tolerance.map_loss,
        clips=0 if clips is None else len(clips),
        usage={},
        window_seconds=card.seconds_per_frame or 0.0 if prepared.split else card.window_seconds,
    )
    if violations := report.find_violations():
        raise ParityError(f"{name}: not kept, too far from Keras: {'; '.join(violations)}")
    num_threads = _NUM_THREADS if measures_usage else ()
    return dataclasses.replace(report, usage={threads: measure_usage(path, threads) for threads in num_threads})


def predict_reference(prepared: PreparedModel, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Predict the outputs of a batch with Keras."""
    return {name: np.asarray(value) for name, value in prepared.reference.predict_on_batch(batch).items()}


def compute_map(run: Run, clips: PackInputs) -> float:
    """Compute the mAP of a model on evaluation clips.

    Raises:
        ValueError: The model has no output `clipwise`.
    """
    scores = []
    for batch in clips.batches():
        outputs = run(batch)
        if "clipwise" not in outputs:
            raise ValueError(f"`evaluation` needs a model with the output `clipwise`; received: {', '.join(outputs)}")
        scores.append(outputs["clipwise"])
    return compute_metrics(clips.targets, np.concatenate(scores)).map


class FixedSubClipModel:
    """A two-stream model that takes all sub-clips of a clip at one given place; it shares the weights of `model`."""

    def __init__(self, model: keras.Model) -> None:
        self._model = keras.models.clone_model(model, clone_function=_fix_sub_clips, recursive=True)
        (self._select,) = (each for each in flatten_layers(self._model) if isinstance(each, _FixedClipSelect))

    def predict(self, inputs: np.ndarray, middles: np.ndarray) -> np.ndarray:
        """Predict the clipwise probabilities of a batch, with sub-clips around `middles` `(batch,)`, in half frames."""
        self._select.middles = middles
        return np.asarray(self._model(inputs, training=False)["clipwise"])

    def predict_range(self, inputs: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Predict the lowest and the highest probability of each class for any sub-clip of one clip.

        A probability that is pooled over sub-clips lies between those of its least and its most probable sub-clip.
        """
        places = np.arange(2 * num_frames - 1) / 2  # output frames and the middles between them: all possible centers
        clipwise = []
        for start in range(0, len(places), _NUM_PLACES):
            some = places[start : start + _NUM_PLACES]
            clipwise.append(self.predict(np.repeat(inputs, len(some), axis=0), some))
        probabilities = np.concatenate(clipwise)
        return probabilities.min(axis=0, keepdims=True), probabilities.max(axis=0, keepdims=True)


class _FixedClipSelect(ClassWiseClipSelect):
    """Selection of the sub-clips around `middles`, `(batch,)`, whatever the probabilities are."""

    middles: Any = 0.0

    def find_middles(self, probabilities: Any, steps: Any) -> Any:
        twice_middles = ops.cast(2 * np.atleast_1d(np.asarray(self.middles, np.float32)), "int32")[:, None]
        return ops.broadcast_to(twice_middles, ops.shape(probabilities)[:2])


def _fix_sub_clips(layer: keras.layers.Layer) -> keras.layers.Layer:
    return _FixedClipSelect.from_config(layer.get_config()) if isinstance(layer, ClassWiseClipSelect) else layer


def _compare(
    run: Run, prepared: PreparedModel, tolerances: Mapping[str, float]
) -> tuple[_ByOutputAndProbe, _ByOutputAndProbe, _ByOutputAndProbe]:
    """Compute `differences`, `sub_clip_differences` and `roundings` of an `ExportReport`."""
    differences: _ByOutputAndProbe = {output: {} for output in tolerances}
    sub_clip_differences: _ByOutputAndProbe = {}
    roundings: _ByOutputAndProbe = {}
    may_differ = tolerances.get("framewise", 0.0) >= _MIN_TOLERANCE_FOR_SUB_CLIPS and "clipwise" in tolerances
    selects = any(isinstance(layer, ClassWiseClipSelect) for layer in flatten_layers(prepared.reference))
    fixed_model = FixedSubClipModel(prepared.reference) if may_differ and selects else None
    exact_network: keras.Model | None = None
    for probe, inputs in make_probes(prepared).items():
        expected, actual = predict_reference(prepared, inputs), run(inputs)
        for output, value in expected.items():
            differences[output][probe] = _compute_difference(output, actual[output], value)
        if fixed_model and differences["clipwise"][probe] > tolerances["clipwise"]:
            sub_clip_differences.setdefault("clipwise", {})[probe] = differences["clipwise"][probe]
            least, most = fixed_model.predict_range(inputs, expected["framewise"].shape[1])
            distance = np.maximum(least - actual["clipwise"], actual["clipwise"] - most).clip(0).max()
            differences["clipwise"][probe] = float(distance)
        exceeded = [output for output in expected if differences[output][probe] > tolerances[output]]
        if not exceeded or prepared.input_name == "waveform":
            continue
        exact_network = exact_network or rebuild_network(prepared.reference, dtype="float64")
        exact = exact_network(inputs.astype(np.float64), training=False)
        for output in exceeded:
            exact_value = np.asarray(exact[output])
            keras_error = _compute_difference(output, expected[output], exact_value)
            file_error = _compute_difference(output, actual[output], exact_value)
            if file_error <= ROUNDINGS * keras_error:
                roundings.setdefault(output, {})[probe] = keras_error
    return differences, sub_clip_differences, roundings


def _compute_difference(output: str, actual: np.ndarray, expected: np.ndarray) -> float:
    scale = 1.0 if output in ("clipwise", "framewise") else max(1e-6, float(np.abs(expected).max()))
    return float(np.abs(actual - expected).max()) / scale
