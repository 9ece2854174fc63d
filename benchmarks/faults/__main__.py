"""Measure what faults of the disk, the network and foreign files do to kerastag, and print a table.

    python benchmarks/faults [--quick] [NAME ...]

Every module of this folder is a kind of test and offers `run(quick)`, which yields rows: a test, the number of tries,
the number of failures, and what failed. `--quick` makes fewer tries, as CI does. The exit status is 1 after a failure.
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(_FOLDER), str(_FOLDER.parents[1] / "tests"), str(_FOLDER.parent)]

from _figures import add_record_flag, print_table  # noqa: E402 - in the folder above


def main() -> int:
    """Run the modules that are named, or all of them, and return the exit status."""
    names = sorted(path.stem for path in _FOLDER.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Modules to run: {', '.join(names)} (default: all).")
    parser.add_argument("--quick", action="store_true", help="Make fewer tries.")
    add_record_flag(parser)
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(names)):
        parser.error(f"`NAME` must be one of {', '.join(names)}; received: {unknown[0]!r}")
    rows = []
    # Always in this order: what forks for TensorFlow precedes `hostile_models`, after which its threads are running.
    for name in [name for name in names if name in args.names or not args.names]:
        start = time.monotonic()
        for test, tries, failures, details in import_module(name).run(args.quick):
            rows.append((test, f"{tries:,}", f"{failures:,}", details))
            print(f"{name}: {test}: {failures} of {tries} failed {details}", file=sys.stderr, flush=True)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    print_table("faults", ["test", "tries", "failures", "what failed"], rows, args.record)
    return int(any(failures != "0" for _, _, failures, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
