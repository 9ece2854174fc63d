"""`kerastag score-events`: score how well a model predicts when each class is active."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_column_options, add_verb, get_options


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "score-events", "Score how well a model predicts when each class is active.")
    parser.add_argument(
        "model", metavar="MODEL", help="Path of a .keras or .tflite file, or of predictions in an .npz file."
    )
    parser.add_argument("--pack", required=True, metavar="EVAL.h5", help="Pack with the clips to score.")
    parser.add_argument(
        "--events",
        metavar="TABLE",
        help="Ground truth with the columns filename onset offset event_label, or a table of Raven, Audacity or "
        "Whombat (default: EVAL.tsv beside the pack).",
    )
    add_column_options(parser)
    thresholds = parser.add_mutually_exclusive_group()
    thresholds.add_argument("--tune", metavar="VALID.h5", help="Another pack, on which thresholds are tuned.")
    thresholds.add_argument("--threshold", type=float, help="Threshold of all classes (default: those of the card).")
    parser.add_argument(
        "--by", choices=("event", "segment"), default="event", help="F1 that --tune maximizes (default: %(default)s)."
    )
    parser.add_argument(
        "--smoothing-seconds", type=float, default=0.0, help="Length of the median filter (default: %(default)s)."
    )
    parser.add_argument(
        "--min-seconds", type=float, default=0.0, help="Length of the shortest event (default: %(default)s)."
    )
    parser.add_argument(
        "--max-gap-seconds", type=float, default=0.0, help="Longest pause within an event (default: %(default)s)."
    )
    parser.add_argument(
        "--segment-seconds",
        type=float,
        help="Segment length of a model of embeddings without a card; 1 for the embeddings that AudioSet publishes.",
    )
    parser.add_argument(
        "--sub-clip-seconds", type=float, help="Length of the sub-clips of a model that does not contain it."
    )
    parser.add_argument("--json", dest="output", metavar="FILE", help="JSON file to write all scores to.")


def run(args: argparse.Namespace) -> None:
    """Score the model and print the scores."""
    from kerastag.scoring import score_events

    print(score_events(**get_options(args)))
