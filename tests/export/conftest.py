"""Fixtures for all tests of the export."""

from export.small_models import embedding_pack, head_file, tagger_file

__all__ = ["embedding_pack", "head_file", "tagger_file"]
