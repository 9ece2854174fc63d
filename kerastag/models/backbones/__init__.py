"""Networks from log-mel to probabilities, one per module; `kerastag.models` exports their builders.

Each module defines `build_features`, `build_head` (or imports one), `BACKBONE`, which joins both, and the builder.
"""
