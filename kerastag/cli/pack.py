"""`kerastag pack`: write packs, the files that training reads."""

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from kerastag.cli.parsers import add_channel_option, add_label_options, add_verb, get_label_options


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    description = "Write packs, the files that training reads."
    kinds = subparsers.add_parser("pack", help=description, description=description).add_subparsers(
        dest="kind", required=True, metavar="KIND", title="kinds"
    )
    parser = add_verb(kinds, "features", "Convert AudioSet's feature files to one HDF5 pack per split.")
    parser.add_argument("--source", required=True, help="Archive features.tar.gz as downloaded, or its folder.")
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="Folder for bal_train.h5, unbal_train.h5 and eval.h5."
    )
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="Splits to convert (default: all in SOURCE).")
    parser.add_argument("--skip-corrupt", action="store_true", help="Skip damaged records and list them.")
    parser = add_verb(kinds, "audio", "Convert labeled recordings to an HDF5 pack of 16-bit waveforms.")
    _add_pack_options(parser)
    parser.add_argument("--sample-rate", type=int, default=32_000, help="Sample rate, Hz (default: %(default)s).")
    parser.add_argument(
        "--clip-seconds", type=float, default=10.0, help="Length of a clip, seconds (default: %(default)s)."
    )
    add_channel_option(parser)
    parser.add_argument("--skip-corrupt", action="store_true", help="Skip unreadable recordings and list them.")
    parser = add_verb(kinds, "embeddings", "Convert embeddings of an archive, with labels, to an HDF5 pack.")
    parser.add_argument("--archive", required=True, metavar="DIR", help="Folder of an archive with embeddings.")
    _add_pack_options(parser)
    parser.add_argument(
        "--num-segments", type=int, default=10, help="Largest number of segments of a clip (default: %(default)s)."
    )


def _add_pack_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of recordings with labels, and of the pack that they become."""
    parser.add_argument(
        "--audio-dir",
        required=True,
        metavar="FOLDER",
        help="Folder with one folder per class, or the base of the paths in --labels.",
    )
    add_label_options(parser)
    parser.add_argument("--output", required=True, metavar="PACK.h5", help="Pack to write, such as bal_train.h5.")


def run(args: argparse.Namespace) -> None:
    """Write the packs and print a report."""
    if args.kind == "features":
        _pack_features(args)
    elif args.kind == "embeddings":
        _pack_embeddings(args)
    else:
        _pack_audio(args)


def _pack_features(args: argparse.Namespace) -> None:
    from kerastag.data.tfrecord import pack_features

    reports = pack_features(args.source, args.output, splits=args.splits, skip_corrupt=args.skip_corrupt)
    for report in reports.values():
        print(report)
        _print_skipped(report.skipped)


def _pack_audio(args: argparse.Namespace) -> None:
    from kerastag.data.audio_list_reading import read_audio_list
    from kerastag.data.audio_lists import report_list
    from kerastag.data.audio_pack_writer import pack_audio

    recordings = read_audio_list(args.audio_dir, **get_label_options(args))
    report_list(recordings)
    report = pack_audio(
        recordings,
        args.output,
        sample_rate=args.sample_rate,
        clip_seconds=args.clip_seconds,
        channel=args.channel,
        skip_corrupt=args.skip_corrupt,
    )
    print(report)
    _print_skipped(report.skipped)


def _pack_embeddings(args: argparse.Namespace) -> None:
    from kerastag.archive import pack_embeddings
    from kerastag.data.audio_list_reading import read_audio_list
    from kerastag.data.audio_lists import report_list

    recordings = read_audio_list(args.audio_dir, **get_label_options(args))
    report_list(recordings)
    report = pack_embeddings(args.archive, recordings, args.output, num_segments=args.num_segments)
    print(report)
    _print_skipped(report.skipped)


def _print_skipped(errors: Iterable[object]) -> None:
    for error in errors:
        print(f"skipped: {error}", file=sys.stderr)
