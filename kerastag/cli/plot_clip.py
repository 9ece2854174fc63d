"""`kerastag plot-clip`: plot a clip of a pack."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb, get_options


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "plot-clip", "Plot a clip of a pack: its log-mel, its embeddings and its labels.")
    parser.add_argument("pack", metavar="PACK", help="Pack of embeddings or waveforms.")
    parser.add_argument("--clip", metavar="NAME", help="Name of the clip, or its row number, from 0 (default: 0).")
    parser.add_argument(
        "--audio", dest="audio_file", metavar="FILE", help="Recording of a clip of a pack of embeddings, for log-mel."
    )
    parser.add_argument(
        "--segment-seconds",
        type=float,
        default=1.0,
        metavar="S",
        help="Distance from one embedding to the next (default: %(default)s, as AudioSet publishes).",
    )
    parser.add_argument("--output", required=True, metavar="PNG", help="Path of the plot: .png, .pdf or .svg.")


def run(args: argparse.Namespace) -> None:
    """Draw the plot and print its path."""
    from kerastag.tagger.clip_plot import plot_clip

    print(plot_clip(**get_options(args)))
