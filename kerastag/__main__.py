"""Entry point of the `kerastag` command."""

import sys

from kerastag.cli import main

if __name__ == "__main__":
    sys.exit(main())
