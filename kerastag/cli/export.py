"""`kerastag export`: export a model for a device or a server."""

import argparse
from pathlib import Path
from typing import Any

from kerastag.card import Card
from kerastag.cli.parsers import add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(
        subparsers, "export", "Export a model for a device or a server and compare the exported file with Keras."
    )
    parser.add_argument(
        "model", metavar="MODEL|RUN", help="Path of a .keras file or of a run folder, or name of published weights."
    )
    parser.add_argument(
        "--target", required=True, metavar="NAME", help="Name of a file in export/targets, or path of a TOML file."
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="Path of the .tflite file, or of the SavedModel's folder."
    )
    parser.add_argument(
        "--segment-seconds",
        type=float,
        metavar="S",
        help="Export only the embedder, for segments of this length, to be used by stream with a --head.",
    )
    parser.add_argument("--evaluation", metavar="DIR|PACK", help="Clips on which mAP is compared.")
    parser.add_argument(
        "--representative", metavar="DIR|PACK", help="Recordings that set the ranges of the targets int8 and int16x8."
    )


def run(args: argparse.Namespace) -> None:
    """Export the model and print the comparison."""
    from kerastag.export import read_target

    target = read_target(args.target)  # An error in it is reported before a framework is loaded.
    from kerastag.export import export_model
    from kerastag.tagger import fetch_model

    model = Path(args.model) if Path(args.model).is_dir() else fetch_model(args.model)
    report = export_model(
        model,
        target,
        args.output,
        segment_seconds=args.segment_seconds,
        evaluation=args.evaluation,
        recordings=args.representative,
        card=_read_run_card(model),
    )
    print(report.as_markdown())
    _check_chain(model, Path(args.output))


def _read_run_card(model: Path) -> Card | None:
    """Read the card of a run, which may be missing in its model; return None for models outside run folders."""
    from kerastag.training.run_folder import RunFolder

    try:
        folder = RunFolder.open(model if model.is_dir() else model.parent)
        return folder.card() if model in (folder.path, folder.model_path) else None
    except (FileNotFoundError, ValueError):
        return None


def _check_chain(model: Path, output: Path) -> None:
    """Compare the file with training where the model is one of `kerastag learn` whose recordings are there."""
    from kerastag.training.run_folder import RunFolder

    try:
        folder = RunFolder.open(model if model.is_dir() else model.parent)
    except (FileNotFoundError, ValueError):
        return
    if folder.system == "custom":
        from kerastag.custom.chain import check_export

        if (report := check_export(folder, model, output)) is not None:
            print(report)
