"""Tests of the application without a server around it."""

import asyncio
import json

import httpx
import pytest

from kerastag.serving.app import create_app
from kerastag.serving.config import ModelSpec, ServeConfig
from kerastag.serving.server_state import ServerState


@pytest.mark.parametrize("path", ["/v1/tag", "/v1/models"])
def test_a_fault_of_the_server_is_answered_and_raised(monkeypatch, path):
    async def request():
        state = ServerState(ServeConfig(models=(ModelSpec.parse("esc10"),)))
        monkeypatch.setattr(state.models, "get", lambda *_, **__: 1 / 0)
        transport = httpx.ASGITransport(create_app(state), raise_app_exceptions=is_raised)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request("POST" if path == "/v1/tag" else "GET", path, content=b"x")
        finally:
            state.close()

    is_raised = False
    response = asyncio.run(request())
    assert response.status_code == 500
    assert json.loads(response.content)["error"]["code"] == "internal_error"
    is_raised = True
    with pytest.raises(ZeroDivisionError):
        asyncio.run(request())
