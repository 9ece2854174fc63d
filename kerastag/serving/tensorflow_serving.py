"""The REST protocol of TensorFlow Serving."""

from __future__ import annotations

from fastapi import FastAPI

from kerastag.serving.server_state import ServerState


def add_routes(app: FastAPI, state: ServerState) -> None:
    """Add the routes of the protocol."""
