"""`kerastag serve`: serve models over HTTP."""

import argparse
import functools
from typing import Any

from kerastag._command import log_line
from kerastag.cli.parsers import add_verb, get_options


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "serve", "Serve models over HTTP, with a page for browsers.")
    parser.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="MODEL",
        help="Path of a .tflite or .keras file or of a SavedModel folder, or name of a model, such as mn04_as; or "
        "NAME=PATH or NAME:VERSION,LABEL=PATH. Repeat it for several models (default: esc10, bundled).",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "litert", "keras"),
        default="auto",
        help="What runs a named model: litert, for which it is exported once, or keras (default: litert if installed).",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="Interpreters per model (default: one per core).")
    address = parser.add_argument_group("address and access")
    address.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
    address.add_argument("--port", type=int, default=8000, help="Port to listen on, 0 for any (default: %(default)s).")
    address.add_argument("--token-file", metavar="FILE", help="File with the token that clients must send.")
    address.add_argument(
        "--no-token", action="store_true", help="Listen on addresses other than loopback without a token."
    )
    address.add_argument(
        "--allowed-host", action="append", dest="allowed_hosts", default=[], metavar="NAME",
        help="Name by which clients may address the server, besides IP addresses and localhost.",
    )  # fmt: skip
    address.add_argument(
        "--allowed-origin", action="append", dest="allowed_origins", default=[], metavar="ORIGIN",
        help="Origin of pages on another site that may use the server, such as https://example.com.",
    )  # fmt: skip
    limits = parser.add_argument_group("limits")
    for option, kind, metavar, text, default in (
        ("--max-body-mb", float, "MB", "Largest body of a request", "1000"),
        ("--max-memory-mb", float, "MB", "Largest size of all bodies that are in memory", "2000"),
        ("--max-duration-seconds", float, "S", "Longest recording", "14400"),
        ("--max-running", int, "N", "Requests processed at the same time", "two per core"),
        ("--max-waiting", int, "N", "Requests that may wait for their turn", "64"),
        ("--max-streams", int, "N", "Streams at the same time", "8"),
        ("--max-connections", int, "N", "Connections at the same time", "512"),
        ("--request-timeout-seconds", float, "S", "Longest time from the upload to the answer", "600"),
        ("--upload-timeout-seconds", float, "S", "Longest time for the body of a request", "300"),
        ("--header-timeout-seconds", float, "S", "Longest time for the headers of a request", "10"),
        ("--stream-idle-seconds", float, "S", "Longest time without a message on a stream", "30"),
        ("--drain-seconds", float, "S", "Longest time for requests to end after SIGTERM", "30"),
        ("--decoder-cpu-seconds", int, "S", "Processor time for decoding one recording", "300"),
        ("--decoder-memory-mb", int, "MB", "Address space of a process that decodes recordings", "2048"),
    ):
        limits.add_argument(
            option, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=f"{text} (default: {default})."
        )


def run(args: argparse.Namespace) -> None:
    """Serve models until a signal comes."""
    from kerastag.bundled import BUNDLED_MODEL
    from kerastag.serving.config import ModelSpec, ServeConfig

    options = get_options(args)
    for name in ("allowed_hosts", "allowed_origins"):
        options[name] = tuple(options[name])
    options["models"] = tuple(map(ModelSpec.parse, options["models"] or [BUNDLED_MODEL]))
    config = ServeConfig(**options)
    try:
        from kerastag.serving.server import run_server
    except ImportError as error:
        raise ImportError(f"serving needs the package {error.name}: pip install 'kerastag[serve,edge]'") from error
    run_server(config, functools.partial(log_line, "kerastag serve"), debug=args.debug)
