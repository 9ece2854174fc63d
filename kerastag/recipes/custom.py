"""`python -m kerastag.recipes.custom`, which is `kerastag learn`: a tagger of the user's own sounds.

It is not a published system, and it is in none of the tables: `kerastag.custom` has all of it.
"""

import sys
from collections.abc import Sequence

from kerastag.custom.__main__ import main as run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kerastag learn` with its arguments, by default those of the process, and return its exit status."""
    return run(argv, "learn")


if __name__ == "__main__":
    sys.exit(main())
