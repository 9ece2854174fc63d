"""The model of the tests of `kerastag stream`."""

from edge.conftest import convert, loud_model

__all__ = ["convert", "loud_model"]
