"""Export of a model to a file, which is kept only if it predicts what Keras predicts."""

from __future__ import annotations

import os
from pathlib import Path

import keras

from kerastag.card import Card, write_card
from kerastag.edge.runtime import LiteRTModel
from kerastag.export.inputs import PackInputs, read_representative_inputs
from kerastag.export.metadata import add_metadata
from kerastag.export.parity import Run, check_parity
from kerastag.export.preparation import PreparedModel, prepare_model
from kerastag.export.quantization import quantize
from kerastag.export.report import ExportReport
from kerastag.export.saved_model import find_next_version, load_saved_model, write_saved_model
from kerastag.export.source import extract_embedder, read_source
from kerastag.export.target import Target
from kerastag.export.tflite import convert_model, lower_operation_versions
from kerastag.files import atomic_path, temporary_folder, write_json
from kerastag.locks import hold_lock

__all__ = ["export_model"]


def export_model(
    model: str | os.PathLike[str],
    target: Target,
    output: str | os.PathLike[str],
    *,
    segment_seconds: float | None = None,
    evaluation: str | os.PathLike[str] | None = None,
    recordings: str | os.PathLike[str] | None = None,
    card: Card | None = None,
    measures_usage: bool = True,
) -> ExportReport:
    """Export a Keras model to a TFLite file or a SavedModel.

    The file replaces an existing one only if its differences to Keras are within the tolerances of the target. The
    report is written beside it, to `NAME.parity.json`:

        report = export_model("runs/es_min", read_target("float16"), "es_min.tflite")
        print(report.as_markdown())

    Args:
        model: Path of a `.keras` file, or of a folder that contains `model.keras`.
        target: Target of the export, see `read_target`.
        output: Path of the `.tflite` file, or of the folder in which the next numbered version of a SavedModel is
            created.
        segment_seconds: Length of a segment in seconds, to export only the network that embeds one segment, for
            `kerastag stream` with an attention head; None exports the whole model.
        evaluation: Path of a pack, or of a folder with `eval.h5`, on which the mAP is measured.
        recordings: Path of a folder of recordings or of a pack, from which `"int8"` and `"int16x8"` calibrate ranges.
        card: Card of a model that has none; None reads the card in the model.
        measures_usage: Whether to measure the time and memory of the file, in processes of a few seconds.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: An argument is not allowed, or the target does not support the model.
        ParityError: The file exceeds a tolerance of the target.
        ImportError: A package is not installed.
    """
    output = Path(output)
    _check_arguments(target, output, segment_seconds, recordings)
    source = read_source(model, card)
    if segment_seconds is not None:
        source = extract_embedder(source, segment_seconds)
    prepared = prepare_model(source, target)
    clips = None if evaluation is None else PackInputs(evaluation, prepared)
    with hold_lock(output), temporary_folder(output) as folder:
        temporary_path = folder / output.name
        run: Run
        if target.format == "saved_model":
            write_saved_model(prepared, temporary_path)
            write_card(temporary_path, prepared.card)
            run = load_saved_model(temporary_path, prepared.input_name)
        else:
            temporary_path.write_bytes(_convert(prepared, target, output.stem, recordings))
            write_card(temporary_path, prepared.card)
            run = LiteRTModel(temporary_path)
        report = check_parity(temporary_path, output.name, target, run, prepared, clips, measures_usage)
        path = output / str(find_next_version(output)) if target.format == "saved_model" else output
        with atomic_path(path) as replacement:
            temporary_path.rename(replacement)
        write_json(output.with_name(f"{output.name.removesuffix('.tflite')}.parity.json"), report.as_dict())
    return report


def _convert(prepared: PreparedModel, target: Target, name: str, recordings: str | os.PathLike[str] | None) -> bytes:
    inputs = []
    if recordings is not None and target.needs_recordings:
        inputs = list(read_representative_inputs(recordings, prepared))  # The quantizer would hide what is printed.
    content = quantize(convert_model(prepared), target, prepared.front_end_layers, inputs)
    if target.runtime == "tflite_runtime":
        content = lower_operation_versions(content)
    if target.metadata == "mediapipe":
        content = add_metadata(content, prepared.card, name)
    return content


def _check_arguments(target: Target, output: Path, segment_seconds: float | None, recordings: object) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"the Keras backend must be tensorflow to export; received: {keras.backend.backend()!r}")
    if target.format == "tflite" and output.suffix != ".tflite":
        raise ValueError(f"`output` must end in .tflite for target {target.name}; received: {str(output)!r}")
    if target.format == "saved_model":
        find_next_version(output)
    if target.needs_recordings and recordings is None:
        raise ValueError(
            f"target {target.name} needs `--representative`, a folder of recordings or a pack with audio as in use: "
            "the largest and smallest values set the ranges of 8-bit numbers"
        )
    if segment_seconds is not None and target.window_seconds:
        raise ValueError(f"`segment_seconds` needs a target without `window_seconds`; received: {target.name}")
