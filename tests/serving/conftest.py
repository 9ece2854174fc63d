"""A server of the bundled model for the tests of a module."""

import importlib.util
from collections.abc import Iterator

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("fastapi") else ["test_*.py"]  # without the extra `serve`

if importlib.util.find_spec("fastapi"):
    from serving.servers import RunningServer, run_server


@pytest.fixture(scope="module")
def server() -> "Iterator[RunningServer]":
    """Return a server of the bundled model with the default limits."""
    with run_server() as running:
        yield running
