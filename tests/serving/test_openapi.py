"""Requests that schemathesis makes from /openapi.json: no address may fail."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving.servers import RunningServer, run_server


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Return a server whose limits are low, as requests reach them on purpose."""
    with run_server("--max-body-mb", "2", "--max-duration-seconds", "60") as running:
        yield running


def test_every_address_of_the_server_is_described(server: RunningServer) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    assert {"/v1/tag", "/v1/models", "/v1/models/{name}:predict", "/v2/models/{name}/infer", "/models/{name}"} <= set(
        paths
    )
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert "200" in operation["responses"], (method, path)


@pytest.mark.slow
def test_no_request_that_schemathesis_makes_is_a_failure_of_the_server(server: RunningServer, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="needs schemathesis (extra `dev`)")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    flags = ["--checks", "not_a_server_error", "--max-examples", "8", "--generation-deterministic", "--no-color"]
    result = subprocess.run(
        [*command, *flags],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4_000:] + result.stderr[-1_000:]
    assert not [line for line in server.lines if re.search(r" 5\d\d [\d.]+ ms ", line)]
