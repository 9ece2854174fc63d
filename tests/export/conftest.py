"""The small models of these tests, for all of them."""

from export.small_models import embedding_pack, heads, hearing

__all__ = ["embedding_pack", "heads", "hearing"]
