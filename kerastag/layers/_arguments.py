"""Checks of the arguments of layers and of model builders; each returns the value."""

import math
from collections.abc import Collection
from typing import Any


def check_integer(name: str, value: Any, minimum: int = 1, *, odd: bool = False) -> int:
    """Raise a ValueError unless `value` is an integer of at least `minimum`, with `odd` an odd one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum or (odd and value % 2 == 0):
        kind = "an odd integer" if odd else "an integer"
        raise ValueError(f"`{name}` must be {kind} of at least {minimum}; received: {value!r}")
    return value


def check_positive(name: str, value: Any, *, or_zero: bool = False) -> float:
    """Raise a ValueError unless `value` is a finite number above 0, or 0 where that is allowed."""
    if not (_is_number(value) and math.isfinite(value) and (value > 0 or (or_zero and value == 0))):
        raise ValueError(f"`{name}` must be a number {'of at least' if or_zero else 'above'} 0; received: {value!r}")
    return value


def check_rate(name: str, value: Any) -> float:
    """Raise a ValueError unless `value` is a dropout rate, a number in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be in [0, 1); received: {value!r}")
    return value


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Raise a ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; received: {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
