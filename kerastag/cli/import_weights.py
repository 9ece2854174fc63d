"""`kerastag import`: convert checkpoints of other projects."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    description = "Convert a checkpoint of another project to a .keras file."
    projects = subparsers.add_parser("import", help=description, description=description).add_subparsers(
        dest="project", required=True, metavar="PROJECT", title="projects"
    )
    for project, text in (
        ("panns", "Convert CNN10 or ResNet38 of PANNs (.pth)."),
        ("efficientat", "Convert a MobileNet of EfficientAT (.pt)."),
        ("talnet", "Convert TALNet (.pt)."),
        ("vggish", "Convert VGGish's TensorFlow checkpoint and its PCA."),
    ):
        parser = add_verb(projects, project, text)
        parser.add_argument("file", metavar="FILE", help="Checkpoint as downloaded.")
        parser.add_argument("--output", required=True, metavar="MODEL.keras", help="File to write.")
        if project == "vggish":
            parser.add_argument("--pca", metavar="NPZ", help="File vggish_pca_params.npz (default: fetch it).")
        if project == "talnet":
            text = "Arrays `mean` and `std` by which log-mel is normalized, from TALNet's normalizer.pkl."
            parser.add_argument("--normalizer", required=True, metavar="NPZ", help=text)
        if project != "vggish":
            parser.add_argument("--labels", metavar="CSV", help="Class list (default: AudioSet's).")


def run(args: argparse.Namespace) -> None:
    """Convert the checkpoint and print the path of the model."""
    from kerastag import importers

    if args.project == "vggish":
        from kerastag.fetch import fetch

        print(importers.import_vggish(args.file, args.pca or fetch("vggish_pca"), args.output))
        return
    from kerastag.labels import LabelSet

    labels = None if args.labels is None else LabelSet.from_csv(args.labels)
    if args.project == "talnet":
        print(importers.import_talnet(args.file, args.output, normalizer=args.normalizer, labels=labels))
        return
    import_checkpoint = importers.import_panns if args.project == "panns" else importers.import_efficientat
    print(import_checkpoint(args.file, args.output, labels=labels))
