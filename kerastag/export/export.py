"""A model and a target -> a file, kept only when it says what Keras says."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras

from kerastag.card import write_card
from kerastag.edge.runtime import LiteRTModel
from kerastag.export import parity, tflite
from kerastag.export.clips import evaluation_clips, representative
from kerastag.export.embedder import embedder
from kerastag.export.metadata import with_metadata
from kerastag.export.quantization import quantize
from kerastag.export.saved_model import next_version, runner, write_saved_model
from kerastag.export.serving import Served, serve
from kerastag.export.source import read_source
from kerastag.export.target import Target

__all__ = ["export"]


def export(
    model: str | os.PathLike[str],
    target: Target,
    output: str | os.PathLike[str],
    *,
    segment_seconds: float | None = None,
    evaluation: str | os.PathLike[str] | None = None,
    recordings: str | os.PathLike[str] | None = None,
) -> parity.Report:
    """A model and a target -> the exported file, a JSON of what was measured of it beside, and that as a report.

    The file is written in a temporary folder beside its place, measured there, and renamed when it is as close to
    Keras as the target asks. What stands at its place is replaced at once or not at all.

    Args:
        model: a `.keras` file with its card, or the folder of a run.
        target: what to write, from `read_target`.
        output: the `.tflite` file; of a SavedModel the folder, in which the next numeric version is made.
        segment_seconds: write the embedder alone, from a segment of this length to its `embedding`: what
            `kerastag stream` hears with before an attention head. None writes the whole model.
        evaluation: a pack, or a folder with `eval.h5`, on which mAP is measured before and after.
        recordings: a folder of recordings, or a pack, from which `int8` and `int16x8` take their ranges.

    Raises:
        FileNotFoundError: a file or folder is not there.
        ValueError: the model cannot be exported so, or an argument does not fit.
        ParityError: the file is further from Keras than the target allows.
        ImportError: a package is missing.
    """
    output = Path(output)
    _check(target, output, recordings)
    if segment_seconds is not None and target.window_seconds:
        raise ValueError(f"`segment_seconds` needs a target without `window_seconds`, received {target.name}")
    source = read_source(model)
    served = serve(source if segment_seconds is None else embedder(source, segment_seconds), target)
    clips = None if evaluation is None else evaluation_clips(evaluation, served)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        made = Path(folder, output.name)
        run = _write(made, served, target, recordings)
        write_card(made, served.card)
        report = parity.check(made, output.name, target.name, target.tolerance, run(), served, clips)
        _keep(made, output, target)
    _write_report(output, report)
    return report


def _write(
    path: Path, served: Served, target: Target, recordings: str | os.PathLike[str] | None
) -> Callable[[], parity.Run]:
    """Write the file without its card; returns what loads it once it has one."""
    if target.format == "saved_model":
        write_saved_model(served, path)
        return lambda: runner(path, served)
    content = tflite.convert(served)
    heard = () if recordings is None else representative(recordings, served)
    content = quantize(content, target, served.front_ends, heard)
    if target.runtime == "tflite_runtime":
        content = tflite.for_tflite_runtime(content)
    if target.metadata == "mediapipe":
        content = with_metadata(content, served.card, path.stem)
    path.write_bytes(content)
    return lambda: LiteRTModel(path)


def _keep(made: Path, output: Path, target: Target) -> None:
    if target.format == "saved_model":
        output.mkdir(exist_ok=True)
        made.chmod(0o755)
        made.rename(output / str(next_version(output)))
    else:
        os.replace(made, output)


def _check(target: Target, output: Path, recordings: object) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"exporting needs Keras on TensorFlow: KERAS_BACKEND is {keras.backend.backend()}")
    if target.format == "tflite" and output.suffix != ".tflite":
        raise ValueError(f"`output` of target {target.name} must end in .tflite, received {output}")
    if target.format == "saved_model":
        next_version(output)
    if target.needs_recordings and recordings is None:
        raise ValueError(
            f"target {target.name} needs `--representative`, a folder of recordings or a pack like those that it will "
            "hear: their loudest and softest values set its ranges"
        )


def _write_report(output: Path, report: parity.Report) -> None:
    place = output.with_name(f"{output.name.removesuffix('.tflite')}.parity.json")
    beside = place.with_name(f".{os.getpid()}.{place.name}")
    beside.write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    os.replace(beside, place)
