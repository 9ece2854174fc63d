"""`kerastag archive`: tag a million recordings into Parquet."""

import argparse
import signal
import sys
from typing import Any

from kerastag.cli.parsers import add_channel_option, add_class_selection, add_event_options, add_verb, get_options

_SETTINGS = (
    *("threshold", "top", "classes", "channel", "embeddings", "segment_seconds"),
    *("events", "off_threshold", "smoothing_seconds", "min_seconds", "max_gap_seconds", "refractory_seconds"),
)


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "archive", "Tag many recordings into Parquet, on one machine or on a cluster.")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="Audio files, folders of them, patterns, CSV or Parquet files with a column of paths, or URLs such as "
        "s3://bucket/folder.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="Folder of the archive, on a local disk.")
    parser.add_argument(
        "--model", required=True, help="Path of a .tflite or .keras file, or name of a model, such as mn04_as."
    )
    parser.add_argument("--path-column", metavar="NAME", help="Column of paths in tables (default: path, file, …).")
    add_channel_option(parser)
    tags = parser.add_argument_group("tags")
    tags.add_argument(
        "--threshold",
        type=float,
        help="Least probability of a tag of a window, and at which an event begins; 0 writes all (default: that of "
        "each class in the model, or 0 with --top).",
    )
    tags.add_argument("--top", type=int, help="Largest number of tags of a window (default: all).")
    add_class_selection(tags)
    tags.add_argument("--embeddings", action="store_true", help="Write the embedding of each window.")
    tags.add_argument("--segment-seconds", type=float, metavar="S", help="Write that of each segment instead.")
    add_event_options(parser, "Write when each class begins and ends.")
    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="Processes of this machine, or tasks of a Ray cluster (default: %(default)s).",
    )
    engine.add_argument("--jobs", type=int, metavar="N", help="Number of processes (default: number of cores).")
    engine.add_argument("--address", help="Address of the Ray cluster (default: RAY_ADDRESS or auto).")
    engine.add_argument("--shard", metavar="I/N", help="Write the I-th of N parts of a planned archive.")
    engine.add_argument("--plan-only", action="store_true", help="List the inputs, and write nothing else.")
    engine.add_argument("--update", action="store_true", help="Process shards of changed and removed files again.")
    engine.add_argument("--retry-failures", action="store_true", help="Process shards with failures again.")
    engine.add_argument("--json-progress", action="store_true", help="Write the progress as JSON lines.")
    limits = parser.add_argument_group("limits")
    for option, kind, default, unit, text in (
        ("--time-limit", float, 300.0, "S", "Longest time in which a recording must make progress"),
        ("--memory-limit-mb", int, 2_000, "MB", "Memory that a recording may take besides the model"),
        ("--shard-megabytes", int, 1_000, "MB", "Largest size of a new shard of several files"),
    ):
        limits.add_argument(option, type=kind, default=default, metavar=unit, help=f"{text} (default: %(default)s).")
    limits.add_argument(
        "--shard-files",
        type=int,
        metavar="N",
        help="Largest number of files of a new shard (default: 16 to 1,000, for 64 shards or more).",
    )


def run(args: argparse.Namespace) -> int:
    """Write the archive."""
    try:
        from kerastag.archive import ArchiveSettings, write_archive
        from kerastag.archive.report import format_report
    except ImportError as error:
        raise ImportError(f"archives need pyarrow ({error}): pip install 'kerastag[archive]'") from error
    import json

    options = get_options(args)
    settings = ArchiveSettings(**{name: options.pop(name) for name in _SETTINGS})
    report = write_archive(settings=settings, **options)
    number = report.pop("stopped_by")
    if args.json_progress:
        print(json.dumps({"event": "end", **report}))
    else:
        print(format_report(report), end="")
    if number is None:
        return 0
    rest = report["shards"] - report["finished_shards"]
    message = f"ended by {signal.Signals(number).name} with {rest:,} of {report['shards']:,} shards missing"
    print(f"kerastag archive: {message}: run the same command again", file=sys.stderr)
    return 128 + number
