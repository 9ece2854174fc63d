"""Hostile requests, as `make faults` makes ten thousand of them, without a failure."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from checks import ROOT

_FOLDER = ROOT / "benchmarks" / "faults"
_SLOW = ("slow", "silent", "hours", "thousand")  # kinds that take seconds each


@pytest.fixture(scope="module")
def faults() -> Iterator[Any]:
    """Return the module with the hostile requests, and the modules beside it on the path."""
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(_FOLDER)
        patch.syspath_prepend(_FOLDER.parent.parent / "tests")
        import serving_requests

        yield serving_requests


def test_some_requests_of_every_kind_get_the_right_status(faults: Any) -> None:
    kinds = [kind for kind in faults.list_all_kinds() if not any(word in kind.name for word in _SLOW)]
    assert len(kinds) > 25
    with faults.Server() as server:
        expected = server.tag()
        for kind in kinds:
            attempts = list(faults.iterate_attempts(kind, 3))
            assert not asyncio.run(faults.make_attempts(server.port, attempts, kind)), kind.name
        assert not server.check(expected)
        assert not server.find_errors()
        # The check can fail.
        wrong = faults.Attempt([faults.build("/healthz", method="GET")], frozenset({404}))
        assert asyncio.run(faults.make_attempts(server.port, [wrong], kinds[0]))[0].startswith("200 for")


def test_the_documentation_lists_every_kind(faults: Any) -> None:
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    kinds = faults.list_all_kinds()
    for kind in kinds:
        assert f"| {kind.name} | {kind.tries:,} | " in page
    assert f"sends {sum(kind.tries for kind in kinds):,} hostile requests" in page


@pytest.mark.slow
def test_the_table_of_hostile_requests_has_no_failure() -> None:
    command = [sys.executable, "benchmarks/faults", "--quick", "serving_requests"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=280, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "| serve, growth of files | 1 | 0 |" in result.stdout
