"""`kerastag review`: answer questions about seconds of sound, and train the head of a run on the answers."""

import argparse
import functools
import sys
from typing import Any

from kerastag._command import log_line
from kerastag.cli.parsers import add_verb, get_options


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(
        subparsers,
        "review",
        "Answer questions about seconds of sound on a local page, and train a tagger on the answers.",
    )
    parser.add_argument("run_dir", metavar="RUN", help="Path of the run folder of `kerastag learn`.")
    parser.add_argument(
        "recordings", nargs="*", metavar="RECORDINGS", help="Recordings without labels, or folders of them."
    )
    parser.add_argument("--reviewer", default=argparse.SUPPRESS, metavar="NAME", help="Your name (default: the user).")
    parser.add_argument(
        "--window-seconds", type=int, default=5, metavar="S",
        help="Length of the parts of the recordings that are played (default: %(default)s).",
    )  # fmt: skip
    parser.add_argument(
        "--round-size", type=int, default=10, metavar="N", help="Questions selected at a time (default: %(default)s)."
    )
    parser.add_argument(
        "--train-every", type=int, default=10, metavar="N",
        help="Answers after which a head is trained without being asked for, 0 for never (default: %(default)s).",
    )  # fmt: skip
    address = parser.add_argument_group("address and access")
    address.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
    address.add_argument("--port", type=int, default=8001, help="Port to listen on, 0 for any (default: %(default)s).")
    address.add_argument("--token-file", metavar="FILE", help="File with the token that browsers must send.")
    address.add_argument(
        "--allowed-host", action="append", dest="allowed_hosts", default=[], metavar="NAME",
        help="Name by which browsers may address the server, besides IP addresses and localhost.",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Serve the page until a signal comes."""
    from kerastag.review.config import ReviewConfig

    options = get_options(args)
    options["run"] = options.pop("run_dir")
    for name in ("recordings", "allowed_hosts"):
        options[name] = tuple(options[name])
    config = ReviewConfig(**options)
    print("loading Keras …", file=sys.stderr)
    try:
        from kerastag.review.server import run_review
    except ImportError as error:
        raise ImportError(f"the page needs the package {error.name}: pip install 'kerastag[serve,export]'") from error
    run_review(config, functools.partial(log_line, "kerastag review"), debug=args.debug)
