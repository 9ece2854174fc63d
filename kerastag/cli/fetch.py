"""`kerastag fetch`: download a public file into the cache folder."""

import argparse
from typing import Any

from kerastag.cli.parsers import add_verb


def add_parser(subparsers: Any) -> None:
    """Declare the arguments of the verb."""
    parser = add_verb(subparsers, "fetch", "Download a public file into the cache folder.")
    parser.add_argument("name", nargs="?", help="Name of the file (default: list all files).")
    parser.add_argument("--from", dest="from_file", metavar="FILE", help="Local copy to use instead of a download.")


def run(args: argparse.Namespace) -> None:
    """Download the file and print its path, or list all files."""
    from kerastag.fetch import FILES, fetch

    if args.name is None:
        for name, file in FILES.items():
            print(f"{name:26} {file.base_url}{file.file_name} ({file.check})")
        return
    print(fetch(args.name, from_file=args.from_file))
