"""`kerastag export`: export a model for a device or a server."""

import argparse
from typing import Any

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
    from pathlib import Path

    from kerastag.export.target import read_target

    target = read_target(args.target)  # an error in it is reported before a framework is loaded
    from kerastag.export.export import export
    from kerastag.tagger import model_file

    report = export(
        Path(args.model) if Path(args.model).is_dir() else model_file(args.model),
        target,
        args.output,
        segment_seconds=args.segment_seconds,
        evaluation=args.evaluation,
        recordings=args.representative,
    )
    print(report.table())
