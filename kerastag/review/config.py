"""The configuration of `kerastag review`."""

from __future__ import annotations

import getpass
from dataclasses import dataclass, field

__all__ = ["ReviewConfig"]

_LIMITS = {"window_seconds": (1, 30), "round_size": (1, 1_000), "train_every": (0, 10_000), "port": (0, 65_535)}


def _find_user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user has no name, as in some containers
        return "reviewer"


@dataclass(frozen=True, kw_only=True)
class ReviewConfig:
    """Configuration of a review; each field is an argument of `kerastag review`.

    Args:
        run: Path of the run folder of `kerastag learn`.
        recordings: Paths of recordings, or of folders of them, that have no labels; none reviews only the labels of
            the clips of the run.
        reviewer: Name of the person who answers, which is saved with each answer.
        window_seconds: Length of the parts of the recordings that are played, 1 to 30 s.
        round_size: Number of questions that are selected at a time, 1 to 1,000.
        train_every: Number of answers after which a head is trained without being asked for; 0 for never.
        host: Address to listen on. Addresses other than loopback need a token.
        port: Port to listen on; 0 takes a free one.
        token_file: Path of a file whose content is the token that browsers must send; None needs no token.
        allowed_hosts: Names by which browsers may address the server, besides IP addresses, localhost and `host`.

    Raises:
        ValueError: A value is out of range.
    """

    run: str
    recordings: tuple[str, ...] = ()
    reviewer: str = field(default_factory=_find_user_name)
    window_seconds: int = 5
    round_size: int = 10
    train_every: int = 10
    host: str = "127.0.0.1"
    port: int = 8001
    token_file: str | None = None
    allowed_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high or value != int(value):
                raise ValueError(f"`{name}` must be an integer from {low} to {high:,}; received: {value}")
